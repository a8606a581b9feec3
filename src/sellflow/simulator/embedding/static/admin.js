// The admin's half of the stand-in for App Bridge: answers the frame, and no other window.
"use strict";

const { shop, app, origin } = document.body.dataset;
const frame = document.getElementById("app");

async function call(method, path, body) {
  const answer = await fetch(`/shops/${shop}/${path}`, { method, body: JSON.stringify(body) });
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error);
  return found;
}

function toast(text, { isError = false, duration = 5000 } = {}) {
  const shown = document.createElement("p");
  shown.textContent = text;
  shown.classList.toggle("error", isError);
  document.getElementById("toasts").append(shown);
  setTimeout(() => shown.remove(), duration);
  return shown;
}

const toasts = new Map();
const actions = {
  idToken: async () => (await call("POST", "session-token", { client_id: app })).session_token,
  toast: async ({ id, message, options }) => { toasts.set(id, toast(message, options)); },
  hideToast: async ({ id }) => { toasts.get(id)?.remove(); toasts.delete(id); },
  loading: async ({ isLoading }) => { document.getElementById("loading").hidden = !isLoading; },
  navigation: async ({ links }) => showLinks(links),
};

function showLinks(links) {
  const items = links.map(({ label, href }) => {
    const item = document.createElement("li");
    const link = document.createElement("a");
    link.href = "#";
    link.textContent = label;
    link.addEventListener("click", (event) => {
      event.preventDefault();
      frame.contentWindow.postMessage({ shopifyStandIn: true, follow: href }, origin);
    });
    item.append(link);
    return item;
  });
  document.getElementById("app-links").replaceChildren(...items);
}

window.addEventListener("message", async (event) => {
  if (!frame || event.source !== frame.contentWindow || event.origin !== origin || !event.data?.shopifyStandIn) return;
  const { call: id, action, details } = event.data;
  const answer = { shopifyStandIn: true, answerTo: id };
  try {
    if (!Object.hasOwn(actions, action)) throw new Error(`${action} is not simulated`);
    answer.value = await actions[action](details ?? {});
  } catch (error) {
    answer.error = String(error.message ?? error);
  }
  frame.contentWindow.postMessage(answer, origin);
});

async function click(work) {
  try {
    await work();
    location.reload();
  } catch (error) {
    toast(error.message, { isError: true });
  }
}

document.getElementById("install")?.addEventListener("click", () => click(() => call("POST", "install", { client_id: app })));
document.getElementById("uninstall")?.addEventListener("click", () => click(() => call("POST", "uninstall", { client_id: app })));
