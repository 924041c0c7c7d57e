// Runs the module:
//
//     node run.mjs MODULE.wasm kernels
//     node run.mjs MODULE.wasm hash fastest|scalar MODEL.gguf ID,ID,...
//
// Prints its answer.
import { readFileSync } from "node:fs";

const [module, what, backend, path, ids] = process.argv.slice(2);
if (what !== "kernels" && !(what === "hash" && ["fastest", "scalar"].includes(backend) && ids)) {
  console.error("usage: node run.mjs MODULE.wasm kernels | hash fastest|scalar MODEL.gguf ID,ID,...");
  process.exit(2);
}
const { instance } = await WebAssembly.instantiate(readFileSync(module), {});
const { memory, hash, kernels } = instance.exports;

const PAGE = 65536;
// Each region is a pair of address and length, in memory that the module itself never uses.
const table = memory.grow(1) * PAGE;
let regions = 0;
function region(bytes) {
  const start = memory.grow(Math.ceil(bytes / PAGE)) * PAGE;
  const entry = table + 8 * regions++;
  new Uint32Array(memory.buffer, entry, 2).set([start, bytes]);
  return { entry, start };
}

const answer = region(4096);
let length;
if (what === "kernels") {
  length = kernels(answer.entry);
} else {
  const file = readFileSync(path);
  const model = region(file.length);
  new Uint8Array(memory.buffer, model.start, file.length).set(file);
  const tokens = Uint32Array.from(ids.split(","), Number);
  const prompt = region(tokens.byteLength);
  new Uint32Array(memory.buffer, prompt.start, tokens.length).set(tokens);
  const arena = region(64 << 20);
  length = hash(model.entry, prompt.entry, arena.entry, answer.entry, backend === "scalar" ? 1 : 0);
}
const text = new TextDecoder().decode(new Uint8Array(memory.buffer, answer.start, length));
console.log(text.trimEnd());
process.exit(/^(error|differ)/m.test(text) ? 1 : 0);
