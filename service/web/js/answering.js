// One streamed answer: text as it comes, then the report of who moved each token.

import { events } from "./api.js";
import { ApiError } from "./api.js";

// request: {model, user, messages, seed, cage}; onText(the whole text so far). Returns {id, text, report}.
export async function answer(request, { onText, signal }) {
  const body = { ...request, stream: true, cage: { ...request.cage, explain: true } };
  const result = { id: null, text: "", report: null };
  for await (const { data } of events("POST", "/v1/chat/completions", { body, signal })) {
    if (data === "[DONE]") break;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ApiError(0, "The answer broke off.", chunk.error.message);
    result.id = chunk.id;
    if (chunk.cage) result.report = { ...result.report, ...chunk.cage };
    const delta = chunk.choices[0]?.delta.content;
    if (delta) onText((result.text += delta));
  }
  return result;
}

export const newSeed = () => Math.floor(Math.random() * 2 ** 31);
