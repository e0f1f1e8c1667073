// llama.cpp as a program: a request in JSON on standard input, the answer in JSON on standard output.
// node llama_cpp.mjs FOLDER_OF_NODE_LLAMA_CPP
import {readFileSync} from "node:fs";
import {pathToFileURL} from "node:url";

const {getLlama, LlamaLogLevel} = await import(pathToFileURL(`${process.argv[2]}/dist/index.js`));
const {model: modelPath, lora, texts, ids, greedy} = JSON.parse(readFileSync(0, "utf8"));
const llama = await getLlama({build: "never", gpu: false, logLevel: LlamaLogLevel.error});
const model = await llama.loadModel({modelPath});
const context = await model.createContext({
    contextSize: 256, threads: 1, lora: lora ? {adapters: [{filePath: lora}]} : undefined,
});
const sequence = context.getSequence();

/** Logits behind each token, in the order of the vocabulary. */
async function logits(tokens) {
    await sequence.clearHistory();
    const asked = tokens.map((token) => [token, {generateNext: {logits: true}}]);
    const found = await sequence.controlledEvaluate(asked);
    return found.map(({next}) => [...next.logits].sort(([a], [b]) => a - b).map(([, value]) => value));
}

/** The most likely `greedy` tokens after these, or fewer where the text ends. */
async function continued(tokens) {
    await sequence.clearHistory();
    const found = [];
    for await (const token of sequence.evaluate(tokens, {temperature: 0, yieldEogToken: true})) {
        found.push(token);
        if (found.length === greedy || model.isEogToken(token)) break;
    }
    return found;
}

const answer = {tokens: texts.map((text) => model.tokenize(text, true)), logits: [], continued: []};
for (const tokens of ids) {
    if (greedy) answer.continued.push(await continued(tokens));
    else answer.logits.push(await logits(tokens));
}
process.stdout.write(JSON.stringify(answer), () => process.exit(0));
