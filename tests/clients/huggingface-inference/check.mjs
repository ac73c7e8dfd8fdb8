// @huggingface/inference with the address of a model.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

import { InferenceClient } from "@huggingface/inference";

import {
  CHAT, CLASSIFIER, EMBEDDER, MASKS, SOUND, SPEECH, SPOKEN, TASKS, URL_BASE, check, main,
} from "./checks.mjs";

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

const of = (task) => at(TASKS[task]);
const PNG = // 8 x 8 pixels of one red
  "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAFElEQVR4nGM8wcXFgA0wYRUdtBIAse4A7AgtPbsAAAAASUVORK5CYII=";
const red = () => new Blob([Buffer.from(PNG, "base64")], { type: "image/png" });
const sound = () => new Blob([readFileSync(SOUND)], { type: "audio/flac" });

check("classifies texts by labels of the request", async () => {
  const request = { inputs: "the cat", parameters: { candidate_labels: ["cats", "dogs"] } };
  const found = await at(CLASSIFIER).zeroShotClassification(request);
  assert(JSON.stringify(found).includes("cats"), JSON.stringify(found));
});

check("classifies tokens and answers questions", async () => {
  const tokens = await of("token-classification").tokenClassification({ inputs: "the cat sat" });
  assert(Array.isArray(tokens), JSON.stringify(tokens));
  const inputs = { question: "who", context: "the cat sat" };
  const found = await of("question-answering").questionAnswering({ inputs });
  assert("the cat sat".includes(found.answer), JSON.stringify(found));
});

check("summarizes and translates", async () => {
  const request = { inputs: "a bbb c", parameters: { max_new_tokens: 3 } };
  assert.equal((await of("summarization").summarization(request)).summary_text, "bbb");
  assert.equal((await of("translation").translation(request)).translation_text, "bbb");
});

check("classifies pictures", async () => {
  const found = await of("image-classification").imageClassification({ data: red() });
  assert.equal(found[0].label, "red");
  const again = await of("image-classification").imageClassification({ inputs: red() });
  assert.equal(again[0].label, "red");
  const request = { inputs: { image: red() }, parameters: { candidate_labels: ["green", "red"] } };
  const compared = await of("zero-shot-image-classification").zeroShotImageClassification(request);
  assert.equal(compared[0].label, "red");
});

check("finds objects and segments", async () => {
  const boxes = await of("object-detection").objectDetection({ data: red() });
  assert(boxes.every((one) => one.box.xmax >= one.box.xmin), JSON.stringify(boxes));
  const segments = await of("image-segmentation").imageSegmentation({ inputs: red() });
  assert(segments.length > 0 && segments[0].mask.length > 0, JSON.stringify(segments));
});

check("turns pictures into texts and pictures", async () => {
  const text = await of("image-to-text").imageToText({ data: red() });
  assert.equal(text.generated_text, "a photo of red");
  const picture = await of("image-to-image").imageToImage({ inputs: red() });
  assert(picture instanceof Blob && picture.size > 0, "no picture");
});

check("classifies and transcribes sounds", async () => {
  const labels = await of("audio-classification").audioClassification({ data: sound() });
  assert.equal(labels.length, 4);
  const found = await at(SPEECH).automaticSpeechRecognition({ data: sound() });
  assert.equal(found.text.trim(), SPOKEN);
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
