// The AI SDK with @ai-sdk/openai-compatible.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { embedMany, generateText, stepCountIs, streamText, tool } from 'ai'
import { z } from 'zod'
import { CHAT, EMBEDDER, RECITER, URL_BASE, check, main } from './checks.mjs'

const gpux = createOpenAICompatible({ name: 'gpux', baseURL: `${URL_BASE}/v1`, apiKey: 'none', includeUsage: true })
const asked = { model: gpux.chatModel(CHAT), prompt: 'abc', maxOutputTokens: 9, maxRetries: 0 }

check('generates_text', async () => {
  const answer = await generateText(asked)
  assert.equal(answer.text.length, 9)
  assert.equal(answer.finishReason, 'length')
  assert.equal(answer.usage.outputTokens, 9)
})

check('streams_text', async () => {
  const whole = (await generateText(asked)).text
  const result = streamText(asked)
  let text = ''
  for await (const piece of result.textStream) text += piece
  assert.equal(text, whole)
  assert.equal((await result.usage).outputTokens, 9)
})

check('runs_a_tool', async () => {
  const execute = async ({ location }) => (location === 'San Francisco' ? 'dry' : 'wet')
  const weather = tool({ description: 'The weather.', inputSchema: z.object({ location: z.string() }), execute })
  const more = { model: gpux.chatModel(RECITER), tools: { get_weather: weather }, stopWhen: stepCountIs(3) }
  const request = { ...more, prompt: 'Rain?', maxRetries: 0 }
  const answer = await generateText(request)
  assert.equal(answer.text, 'It is dry.')
  assert.equal(answer.steps[0].reasoningText, 'I need the weather.')
  const result = streamText(request)
  let text = ''
  for await (const piece of result.textStream) text += piece
  assert.equal(text, 'It is dry.')
})

check('embeds_texts', async () => {
  const { embeddings } = await embedMany({ model: gpux.embeddingModel(EMBEDDER), values: ['a', 'b'], maxRetries: 0 })
  assert.equal(embeddings.length, 2)
})

check('errors_have_their_status', async () => {
  await assert.rejects(generateText({ ...asked, model: gpux.chatModel('no/such') }), { statusCode: 404 })
})

const { version } = JSON.parse(readFileSync(new URL('node_modules/@ai-sdk/openai-compatible/package.json', import.meta.url)))
await main('@ai-sdk/openai-compatible', version)
