// ollama for JavaScript: chats, streams, vectors, lists.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { Ollama } from 'ollama'
import { CHAT, EMBEDDER, FORMAT, RECITER, URL_BASE, check, main } from './checks.mjs'

const client = new Ollama({ host: URL_BASE })
const messages = [{ role: 'user', content: 'abc' }]
const body = { model: CHAT, messages, options: { num_predict: 9, temperature: 0 } }

check('lists_and_describes_models', async () => {
  const names = (await client.list()).models.map((model) => model.name)
  assert(names.includes(`${CHAT}:fp32`))
  for (const model of names) assert.equal((await client.show({ model })).details.format, FORMAT)
  assert((await client.version()).version)
})

check('answers_a_chat', async () => {
  const found = await client.chat(body)
  assert.equal(found.message.content.length, 9)
  assert.equal(found.done_reason, 'length')
})

check('streams_a_chat', async () => {
  const whole = (await client.chat(body)).message.content
  let text = ''
  let last = null
  for await (const piece of await client.chat({ ...body, stream: true })) {
    text += piece.message.content
    last = piece
  }
  assert.equal(text, whole)
  assert.equal(last.eval_count, 9)
})

check('streams_a_prompt', async () => {
  const request = { model: CHAT, prompt: 'abc', options: body.options }
  let text = ''
  for await (const piece of await client.generate({ ...request, stream: true })) text += piece.response
  assert.equal(text, (await client.generate(request)).response)
})

check('thinks_calls_a_tool_and_reads_its_result', async () => {
  const parameters = { type: 'object', properties: { location: { type: 'string' } }, required: ['location'] }
  const tools = [{ type: 'function', function: { name: 'get_weather', description: 'The weather.', parameters } }]
  const asked = { model: RECITER, messages: [{ role: 'user', content: 'Rain?' }], tools, think: true }
  let thinking = ''
  const calls = []
  for await (const piece of await client.chat({ ...asked, stream: true })) {
    thinking += piece.message.thinking ?? ''
    calls.push(...(piece.message.tool_calls ?? []))
  }
  assert.equal(thinking, 'I need the weather.')
  assert.deepEqual(calls.map((call) => call.function.arguments), [{ location: 'San Francisco' }])
  const { message } = await client.chat(asked)
  const result = { role: 'tool', tool_name: 'get_weather', content: 'dry' }
  const last = await client.chat({ ...asked, messages: [...asked.messages, message, result] })
  assert.equal(last.message.content, 'It is dry.')
  const quiet = await client.chat({ ...asked, tools: [], think: false })
  assert.equal(quiet.message.thinking, undefined)
})

check('embeds_texts', async () => {
  const found = await client.embed({ model: EMBEDDER, input: ['the cat', 'a'] })
  assert.deepEqual(found.embeddings.map((vector) => vector.length), [32, 32])
  assert.equal((await client.embeddings({ model: EMBEDDER, prompt: 'a' })).embedding.length, 32)
})

check('a_loaded_model_is_listed', async () => {
  assert.equal((await client.generate({ model: CHAT, prompt: '' })).done_reason, 'load')
  const [one] = (await client.ps()).models.filter((model) => model.name === `${CHAT}:fp32`)
  assert(new Date(one.expires_at) > new Date())
})

check('errors_have_their_status', async () => {
  await assert.rejects(client.chat({ ...body, model: 'no/such' }), { status_code: 404 })
  await assert.rejects(client.chat({ ...body, model: 'no/such', stream: true }), { status_code: 404 })
  await assert.rejects(client.copy({ source: CHAT, destination: 'mine' }), { status_code: 501 })
})

check('a_stream_can_be_left', async () => {
  for (let turn = 0; turn < 10; turn++) {
    const stream = await client.chat({ ...body, options: { num_predict: 50 }, stream: true })
    for await (const _ of stream) break
  }
  const stream = await client.chat({ ...body, options: { num_predict: 50 }, stream: true })
  stream.abort()
  assert((await client.chat(body)).done)
})

await main('ollama (JavaScript)', JSON.parse(readFileSync(new URL('node_modules/ollama/package.json', import.meta.url))).version)
