// Runs the checks of a JavaScript client; see checks.py.
export const URL_BASE = process.env.GPUX_URL
export const CHAT = process.env.GPUX_CHAT
export const TURNS = process.env.GPUX_TURNS
export const RECITER = process.env.GPUX_RECITER
export const EMBEDDER = process.env.GPUX_EMBEDDER
export const CLASSIFIER = process.env.GPUX_CLASSIFIER
export const MASKS = process.env.GPUX_MASKS
export const SPEECH = process.env.GPUX_SPEECH
export const SOUND = process.env.GPUX_SOUND // path of a flac file in which SPOKEN is said
export const SPOKEN = 'three one four one five'
export const TASKS = JSON.parse(process.env.GPUX_TASKS) // task -> its model
export const FORMAT = process.env.GPUX_FORMAT ?? 'onnx' // of models in Ollama's API
export const SMALL = process.env.GPUX_SMALL ?? '' // empty: no trained model is at hand

export class Skip extends Error {}

const checks = []

/** Run this function in main(). */
export function check(name, run) {
  checks.push([name, run])
}

/** Run the checks, print a line for each, and exit with 1 if one failed. */
export async function main(client, version) {
  console.log(`client: ${client} ${version}`)
  let failed = false
  for (const [name, run] of checks) {
    try {
      await run()
      console.log(`ok: ${name}`)
    } catch (error) {
      if (error instanceof Skip) {
        console.log(`skipped: ${name}: ${error.message}`)
        continue
      }
      failed = true
      console.error(error)
      console.log(`failed: ${name}: ${String(error).replaceAll('\n', ' ')}`)
    }
  }
  process.exit(failed ? 1 : 0)
}
