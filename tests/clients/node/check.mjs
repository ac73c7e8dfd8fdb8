// fetch of node, with the JavaScript program of the legacy API's document as it is printed there.
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'

import { URL_BASE, check, main } from './checks.mjs'

const document = readFileSync(process.env.GPUX_LEGACY_DOCUMENT, 'utf8')
const [, program] = document.match(/^```javascript\n(.*?)^```$/ms)
const base = `${URL_BASE}/api/huggingface`
const local = program.replaceAll('http://localhost:5000', URL_BASE)

function expect(condition, what) {
  if (!condition) throw new Error(what)
}

check('the methods of its client answer', async () => {
  const Client = new Function(`${local.split('// Usage')[0]}; return HuggingFaceClient`)()
  await fetch(`${base}/models/gpt2`, { method: 'DELETE' })
  const client = new Client()
  const added = await client.addModel('gpt2', 'GPT-2', 'text-generation', { description: 'tiny' })
  expect(added.message === "Model 'gpt2' added successfully", JSON.stringify(added))
  const answer = await client.generateText('gpt2', 'abc', { max_new_tokens: 5 })
  expect(answer.success && typeof answer.response === 'string', JSON.stringify(answer))
})

check('the program of the document prints an answer', async () => {
  const shown = execFileSync(process.execPath, ['-e', local], { encoding: 'utf8' })
  expect(shown.trim().length > 1 && !shown.includes('undefined'), shown)
})

main('node', process.version)
