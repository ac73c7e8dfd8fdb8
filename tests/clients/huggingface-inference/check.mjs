// @huggingface/inference with the address of a model.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

import { InferenceClient } from "@huggingface/inference";

import { CHAT, CLASSIFIER, EMBEDDER, MASKS, URL_BASE, check, main } from "./checks.mjs";

const at = (model) => new InferenceClient("none").endpoint(`${URL_BASE}/models/${model}`);

check("classifies texts", async () => {
  const found = await at(CLASSIFIER).textClassification({ inputs: "the cat" });
  assert(found.length === 3 && found[0].score > 0, JSON.stringify(found));
});

check("fills masks", async () => {
  const found = await at(MASKS).fillMask({ inputs: "the [MASK]", parameters: { top_k: 2 } });
  assert(found.length === 2 && typeof found[0].token_str === "string", JSON.stringify(found));
});

check("extracts features", async () => {
  const found = await at(EMBEDDER).featureExtraction({ inputs: "the cat" });
  assert(found[0].length === 4 && found[0][0].length === 32, "wrong shape");
});

check("compares sentences", async () => {
  const inputs = { source_sentence: "the cat", sentences: ["the cat", "a dog"] };
  const found = await at(EMBEDDER).sentenceSimilarity({ inputs });
  assert(Math.abs(found[0] - 1) < 1e-5, JSON.stringify(found));
});

check("generates and streams the same text", async () => {
  const request = { inputs: "abc", parameters: { max_new_tokens: 8 } };
  const whole = (await at(CHAT).textGeneration(request)).generated_text;
  let text = "";
  for await (const part of at(CHAT).textGenerationStream(request)) text += part.choices[0]?.text ?? "";
  assert(whole.length > 0 && text === whole, `${text} is not ${whole}`);
});

check("chats and streams the same answer", async () => {
  const request = { messages: [{ role: "user", content: "hi" }], max_tokens: 5 };
  const whole = (await at(CHAT).chatCompletion(request)).choices[0].message.content;
  let text = "";
  for await (const part of at(CHAT).chatCompletionStream(request)) text += part.choices[0]?.delta.content ?? "";
  assert(whole.length > 0 && text === whole, `${text} is not ${whole}`);
});

check("raises an error with the reason", async () => {
  try {
    await at(CLASSIFIER).textClassification({ inputs: "a", parameters: { unknown: 1 } });
  } catch (error) {
    assert(`${error.message} ${JSON.stringify(error.httpResponse ?? "")}`.includes("unknown"), String(error));
    return;
  }
  assert(false, "nothing was raised");
});

const version = JSON.parse(
  readFileSync(new URL("./node_modules/@huggingface/inference/package.json", import.meta.url)),
).version;
await main("@huggingface/inference", version);
