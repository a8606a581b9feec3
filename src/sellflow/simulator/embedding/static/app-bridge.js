// A stand-in for Shopify's App Bridge: the app's half of what `admin.js` answers.
// Load it first in the page, as <script src="http://127.0.0.1:8081/app-bridge.js" data-api-key="CLIENT_ID"></script>;
// a <meta name="shopify-api-key"> does as well.
"use strict";

(() => {
  const script = document.currentScript;
  const admin = new URL(script.src).origin;
  const query = new URLSearchParams(location.search);
  const remembered = (name) => {
    const found = query.get(name);
    if (found) sessionStorage.setItem(`shopify-${name}`, found);
    return found ?? sessionStorage.getItem(`shopify-${name}`) ?? undefined;
  };
  const config = Object.freeze({
    apiKey: script.dataset.apiKey ?? document.querySelector('meta[name="shopify-api-key"]')?.content,
    shop: remembered("shop"),
    host: remembered("host"),
    locale: remembered("locale") ?? "en-US",
  });
  const isEmbedded = window.parent !== window;
  const waiting = new Map();
  let calls = 0;

  function ask(action, details) {
    if (!isEmbedded) return Promise.reject(new Error(`${action}: the page is not embedded in the admin`));
    const id = ++calls;
    return new Promise((resolve, reject) => {
      waiting.set(id, { resolve, reject });
      window.parent.postMessage({ shopifyStandIn: true, call: id, action, details }, admin);
    });
  }

  window.addEventListener("message", (event) => {
    if (event.source !== window.parent || event.origin !== admin || !event.data?.shopifyStandIn) return;
    if (event.data.follow !== undefined) return follow(event.data.follow);
    const { answerTo, value, error } = event.data;
    const asked = waiting.get(answerTo);
    waiting.delete(answerTo);
    if (error === undefined) asked?.resolve(value);
    else asked?.reject(new Error(error));
  });

  // One token serves what happens within a few seconds of it: it lasts a minute.
  let token;
  let tokenUntil = 0;
  function idToken() {
    if (Date.now() >= tokenUntil) {
      tokenUntil = Date.now() + 30_000;
      token = ask("idToken").catch((error) => { tokenUntil = 0; throw error; });
    }
    return token;
  }

  const plainFetch = window.fetch.bind(window);
  async function authenticated(request) {
    const headers = new Headers(request.headers);
    headers.set("Authorization", `Bearer ${await idToken()}`);
    headers.set("X-Requested-With", "XMLHttpRequest");
    return plainFetch(new Request(request, { headers }));
  }
  async function fetchWithToken(input, options) {
    const request = new Request(input, options);
    if (!isEmbedded || new URL(request.url).origin !== location.origin || request.headers.has("Authorization")) {
      return plainFetch(request);
    }
    const again = request.clone();
    const answer = await authenticated(request);
    if (answer.status !== 401 || !answer.headers.has("X-Shopify-Retry-Invalid-Session-Request")) return answer;
    tokenUntil = 0;
    return authenticated(again);
  }

  const anchors = () => [...document.querySelectorAll("s-app-nav a, s-app-nav s-link, ui-nav-menu a")];
  function tellLinks() {
    const links = anchors().filter((one) => one.getAttribute("rel") !== "home");
    const told = links.map((one) => ({ label: one.textContent.trim(), href: one.getAttribute("href") }));
    ask("navigation", { links: told }).catch(() => undefined);
  }
  function follow(href) {
    const link = anchors().find((one) => one.getAttribute("href") === href);
    if (link) link.click();
  }
  function watchLinks() {
    const menus = "s-app-nav, ui-nav-menu";
    let last = "";
    const look = () => {
      const now = [...document.querySelectorAll(menus)].map((one) => one.innerHTML).join();
      if (now !== last) tellLinks();
      last = now;
    };
    const style = document.createElement("style");
    style.textContent = `${menus} { display: none; }`;
    document.head.append(style);
    look();
    new MutationObserver(look).observe(document.body, { childList: true, subtree: true, characterData: true });
  }

  // The bounce page of an app: its document was asked for with a stale token, and is asked for again with a fresh one.
  async function reload(target) {
    const url = new URL(target, location.origin);
    if (url.origin !== location.origin) return;
    url.searchParams.set("id_token", await idToken());
    location.replace(url);
  }

  let toasts = 0;
  window.shopify = Object.freeze({
    config,
    environment: Object.freeze({ embedded: isEmbedded, mobile: false, pos: false, intent: false }),
    idToken,
    ready: Promise.resolve(),
    loading: (isLoading = true) => { ask("loading", { isLoading }).catch(() => undefined); },
    toast: Object.freeze({
      show(message, { isError = false, duration = 5000 } = {}) {
        const id = `toast-${++toasts}`;
        ask("toast", { id, message: String(message), options: { isError, duration } }).catch(() => undefined);
        return id;
      },
      hide(id) { ask("hideToast", { id }).catch(() => undefined); },
    }),
  });
  window.fetch = fetchWithToken;
  const target = query.get("shopify-reload");
  if (isEmbedded && target) reload(target).catch(() => undefined);
  if (isEmbedded) {
    if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", watchLinks);
    else watchLinks();
  }
})();
