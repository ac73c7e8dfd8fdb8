// openai for JavaScript.
import assert from 'node:assert/strict'
import { createReadStream, readFileSync } from 'node:fs'
import OpenAI from 'openai'
import { zodResponseFormat } from 'openai/helpers/zod'
import { z } from 'zod'
import { CHAT, EMBEDDER, RECITER, SMALL, SOUND, SPEECH, SPOKEN, Skip, URL_BASE, check, main } from './checks.mjs'

const client = new OpenAI({ baseURL: `${URL_BASE}/v1`, apiKey: 'none', maxRetries: 0, timeout: 60_000 })
const messages = [{ role: 'user', content: 'abc' }]
const body = { model: CHAT, messages, max_tokens: 9 }

check('lists_models', async () => {
  const ids = []
  for await (const model of client.models.list()) ids.push(model.id)
  assert(ids.includes(CHAT) && ids.includes(`${CHAT}:fp32`))
  for (const id of ids) assert.equal((await client.models.retrieve(id)).id, id)
})

check('answers_a_chat', async () => {
  const answer = await client.chat.completions.create(body)
  assert.equal(answer.choices[0].message.content.length, 9)
  assert.equal(answer.choices[0].finish_reason, 'length')
  assert.equal(answer.usage.completion_tokens, 9)
})

check('streams_the_answer_with_its_usage', async () => {
  const whole = (await client.chat.completions.create(body)).choices[0].message.content
  const stream = await client.chat.completions.create({ ...body, stream: true, stream_options: { include_usage: true } })
  let text = ''
  let usage = null
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta?.content ?? ''
    usage = chunk.usage ?? usage
  }
  assert.equal(text, whole)
  assert.equal(usage.completion_tokens, 9)
})

check('collects_a_stream', async () => {
  const runner = client.chat.completions.stream({ ...body, logprobs: true, top_logprobs: 2 })
  const found = await runner.finalChatCompletion()
  const tokens = found.choices[0].logprobs.content.map((one) => one.token)
  assert.equal(tokens.join(''), found.choices[0].message.content)
})

check('samples_several_answers', async () => {
  const found = await client.chat.completions.create({ ...body, n: 3, seed: 7, temperature: 1.5 })
  assert.equal(new Set(found.choices.map((choice) => choice.message.content)).size, 3)
})

check('parses_structured_answers', async () => {
  if (!SMALL) throw new Skip('the small model is not stored')
  const Animal = z.object({ name: z.string(), legs: z.number().int(), tame: z.boolean() })
  for (const more of [{ temperature: 0 }, { seed: 3 }]) {
    const found = await client.chat.completions.create({
      model: SMALL,
      messages: [{ role: 'user', content: 'Describe a dog.' }],
      response_format: zodResponseFormat(Animal, 'animal'),
      max_tokens: 200,
      ...more
    })
    if (found.choices[0].finish_reason !== 'stop') continue
    Animal.parse(JSON.parse(found.choices[0].message.content))
    return
  }
  assert.fail('no answer ended')
})

const location = { type: 'object', properties: { location: { type: 'string' } }, required: ['location'] }

check('runs_tools', async () => {
  const given = []
  const run = (value) => {
    given.push(value)
    return 'dry'
  }
  const tool = { name: 'get_weather', description: 'The weather.', parameters: location, parse: JSON.parse, function: run }
  const tools = [{ type: 'function', function: tool }]
  for (const more of [{}, { stream: true }]) {
    const runner = client.chat.completions.runTools({ model: RECITER, messages, tools, ...more })
    assert.equal(await runner.finalContent(), 'It is dry.')
  }
  assert.deepEqual(given, [{ location: 'San Francisco' }, { location: 'San Francisco' }])
})

check('streams_a_call_of_a_response', async () => {
  const tools = [{ type: 'function', name: 'get_weather', parameters: location, strict: true }]
  const asked = { model: RECITER, input: [{ role: 'user', content: 'Rain?' }], tools }
  const stream = client.responses.stream(asked)
  let text = ''
  for await (const event of stream) if (event.type === 'response.function_call_arguments.delta') text += event.delta
  const { output } = await stream.finalResponse()
  assert.deepEqual(output.map((item) => item.type), ['reasoning', 'function_call'])
  assert.equal(output[1].arguments, text)
  const result = { type: 'function_call_output', call_id: output[1].call_id, output: 'dry' }
  const last = await client.responses.create({ ...asked, input: [...asked.input, ...output, result] })
  assert.equal(last.output_text, 'It is dry.')
})

check('completes_prompts', async () => {
  const found = await client.completions.create({ model: CHAT, prompt: ['abc', 'x'], max_tokens: 5 })
  assert.deepEqual(found.choices.map((choice) => choice.text.length), [5, 5])
})

check('embeds_texts_in_both_formats', async () => {
  const coded = await client.embeddings.create({ model: EMBEDDER, input: ['the cat', 'a'] })
  const plain = await client.embeddings.create({ model: EMBEDDER, input: ['the cat', 'a'], encoding_format: 'float' })
  for (const [index, one] of coded.data.entries()) {
    assert.equal(one.embedding.length, 32)
    assert.deepEqual(Array.from(one.embedding), plain.data[index].embedding.map(Math.fround))
  }
})

check('transcribes_a_sound', async () => {
  const found = await client.audio.transcriptions.create({ model: SPEECH, file: createReadStream(SOUND) })
  assert.equal(found.text, SPOKEN)
  const more = { model: SPEECH, file: createReadStream(SOUND), response_format: 'verbose_json' }
  const { words } = await client.audio.transcriptions.create({ ...more, timestamp_granularities: ['word'] })
  assert.deepEqual(words.map((one) => one.word), SPOKEN.split(' '))
})

check('errors_have_their_classes', async () => {
  await assert.rejects(client.chat.completions.create({ ...body, model: 'no/such' }), (error) => {
    assert(error instanceof OpenAI.NotFoundError)
    return error.code === 'model_not_found'
  })
  const long = [{ role: 'user', content: 'a'.repeat(999) }]
  await assert.rejects(client.chat.completions.create({ ...body, messages: long, stream: true }), (error) => {
    assert(error instanceof OpenAI.BadRequestError)
    return error.code === 'context_length_exceeded' && error.param === 'messages'
  })
  await assert.rejects(client.chat.completions.create({ ...body, temperature: 9 }), { param: 'temperature' })
})

check('a_stream_can_be_left', async () => {
  for (let turn = 0; turn < 10; turn++) {
    const stream = await client.chat.completions.create({ ...body, max_tokens: 50, stream: true })
    for await (const _ of stream) break
  }
  assert((await client.chat.completions.create(body)).choices.length)
})

await main('openai (JavaScript)', JSON.parse(readFileSync(new URL('node_modules/openai/package.json', import.meta.url))).version)
