"use strict";
// What the pages of `kka review` share: asking the server, errors in words, elements without markup.

const $ = (id) => document.getElementById(id);

async function ask(path, body) {
  const given = body ? { method: "POST", body: JSON.stringify(body) } : {};
  let answer;
  try {
    answer = await fetch(path, given);
  } catch {
    throw new Error("kka review was ended; what was said until then is kept. Start it anew.");
  }
  const said = await answer.json();
  if (!answer.ok) throw new Error(said.error);
  return said;
}

function guarded(work) {
  return async (...given) => {
    try {
      await work(...given);
      $("error").hidden = true;
    } catch (error) {
      $("error").textContent = error.message;
      $("error").hidden = false;
    }
  };
}

function made(tag, fields = {}, ...inner) {
  const node = Object.assign(document.createElement(tag), fields);
  node.append(...inner); // as text, whatever a caption holds
  return node;
}

function columns() {
  return Math.max(1, getComputedStyle($("grid")).gridTemplateColumns.split(" ").length);
}
