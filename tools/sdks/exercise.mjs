// What an application does with the TypeScript SDKs, for each model that is named.
// stdin: {"origin", "key", "models": [...]}. stdout: what each call gave, by model and API, as one JSON object.

import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";

const CITY = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const STATUSES = [400, 401, 404, 429];

const user = (content) => ({ role: "user", content });

async function failures(call) {
  const seen = {};
  for (const status of STATUSES) {
    try {
      await call(`fail ${status}`);
      seen[status] = "no error";
    } catch (error) {
      seen[status] = [error.constructor.name, error.status, error.headers?.get("retry-after") ?? null];
    }
  }
  return seen;
}

async function chat(sdk, model) {
  const ask = (messages, more = {}) => sdk.chat.completions.create({ model, messages, ...more });
  const tools = [{ type: "function", function: { name: "get_weather", parameters: CITY } }];
  const { message } = (await ask([user("weather parallel")], { tools })).choices[0];
  const results = message.tool_calls.map((call) => ({
    role: "tool",
    tool_call_id: call.id,
    content: `${JSON.parse(call.function.arguments).city} is sunny`,
  }));
  return {
    create: (await ask([user("hello")])).choices[0].message.content,
    stream: await sdk.chat.completions.stream({ model, messages: [user("count")] }).finalContent(),
    tools: (await ask([user("weather parallel"), message, ...results], { tools })).choices[0].message.content,
    errors: await failures((words) => ask([user(words)])),
  };
}

async function responses(sdk, model) {
  const ask = (input, more = {}) => sdk.responses.create({ model, input, ...more });
  const tools = [{ type: "function", name: "get_weather", parameters: CITY, strict: false }];
  const first = await ask("weather parallel", { tools });
  const results = first.output
    .filter((item) => item.type === "function_call")
    .map((call) => ({
      type: "function_call_output",
      call_id: call.call_id,
      output: `${JSON.parse(call.arguments).city} is sunny`,
    }));
  const stream = sdk.responses.stream({ model, input: "count" });
  return {
    create: (await ask("hello")).output_text,
    stream: (await stream.finalResponse()).output_text,
    tools: (await ask([user("weather parallel"), ...first.output, ...results], { tools })).output_text,
    errors: await failures((words) => ask(words)),
  };
}

async function messages(sdk, model) {
  const ask = (turns, more = {}) => sdk.messages.create({ model, max_tokens: 99, messages: turns, ...more });
  const text = (message) => message.content.filter((block) => block.type === "text").map((block) => block.text).join("");
  const tools = [{ name: "get_weather", input_schema: CITY }];
  const first = await ask([user("weather parallel")], { tools });
  const results = first.content
    .filter((block) => block.type === "tool_use")
    .map((call) => ({ type: "tool_result", tool_use_id: call.id, content: `${call.input.city} is sunny` }));
  const turns = [user("weather parallel"), { role: "assistant", content: first.content }, user(results)];
  return {
    create: text(await ask([user("hello")])),
    stream: await sdk.messages.stream({ model, max_tokens: 99, messages: [user("count")] }).finalText(),
    tools: text(await ask(turns, { tools })),
    errors: await failures((words) => ask([user(words)])),
  };
}

const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const { origin, key, models } = JSON.parse(Buffer.concat(chunks).toString());
const openai = new OpenAI({ baseURL: `${origin}/v1`, apiKey: key, maxRetries: 0 });
const anthropic = new Anthropic({ baseURL: origin, apiKey: key, maxRetries: 0 });

const listed = [];
for await (const model of openai.models.list()) listed.push(model.id);
const found = { models: listed, answers: {} };
for (const model of models) {
  found.answers[model] = {
    "Chat Completions": await chat(openai, model),
    Responses: await responses(openai, model),
    Messages: await messages(anthropic, model),
  };
}
console.log(JSON.stringify(found));
