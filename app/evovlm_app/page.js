// Additions to gradio in the browser: remembers light or dark mode, labels elements that gradio leaves without a label
// or in English, and adds keyboard control. The server fills in `WORDS`: gradio's English -> text by language.
(() => {
  const WORDS = {};
  const KEY = "evovlm-theme";
  const remembered = () => { try { return localStorage.getItem(KEY); } catch { return null; } };
  const show = (theme) => document.body?.classList.toggle("dark", theme === "dark");
  const said = (english) => WORDS.exact[english]?.[document.documentElement.lang];

  // Gradio labels thumbnails with their number, and the chosen image not at all.
  const pictures = () => {
    const samples = [...document.querySelectorAll(".samples button")];
    for (const button of samples) {
      const told = button.querySelector("img")?.alt;
      if (told && button.getAttribute("aria-label") !== told) button.setAttribute("aria-label", told);
    }
    for (const shown of document.querySelectorAll("[data-testid=image] .image-frame img")) {
      const same = samples.map((button) => button.querySelector("img")).find((image) => image?.src === shown.src);
      const field = shown.closest(".block")?.querySelector("[data-testid=block-label]")?.innerText.trim();
      const told = same?.alt || field || "";
      if (shown.alt !== told) shown.alt = told;
    }
  };

  const labels = () => {
    for (const part of document.querySelectorAll("button[aria-label], input[aria-label]")) {
      if (part.closest(".samples")) continue;
      const english = part.dataset.english ?? part.getAttribute("aria-label");
      const told = said(english);
      if (!told || part.getAttribute("aria-label") === told) continue;
      part.dataset.english = english;
      part.setAttribute("aria-label", told);
      if (part.title) part.title = told;
    }
    for (const box of document.querySelectorAll(".answers-box:not([aria-live])")) box.setAttribute("aria-live", "polite");
  };

  // Some refusals come from gradio itself, before our handlers run.
  const toasts = () => {
    for (const title of document.querySelectorAll(".toast-title")) {
      const text = title.firstChild;
      const told = text?.nodeType === Node.TEXT_NODE && said(text.data.trim());
      if (told && text.data.trim() !== told) text.data = `${told} `;
    }
    for (const message of document.querySelectorAll(".toast-message-text")) {
      const known = Object.keys(WORDS.starts).find((start) => message.textContent.startsWith(start));
      const told = known && WORDS.starts[known][document.documentElement.lang];
      if (told && message.textContent !== told) message.textContent = told;
    }
  };

  window.evovlm = {
    theme() { const known = remembered(); if (known) show(known); },
    flip() {
      const theme = document.body.classList.contains("dark") ? "light" : "dark";
      try { localStorage.setItem(KEY, theme); } catch { /* storage is blocked: the choice is not remembered */ }
      show(theme);
    },
    // On a phone the answers are below the question.
    reveal(id) {
      if (window.innerWidth > 820) return;
      const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
      document.getElementById(id)?.scrollIntoView({ behavior: calm ? "auto" : "smooth", block: "start" });
    },
    speak(language) { document.documentElement.lang = language; name(); return language; },
  };

  // The login page itself shows no message after too many attempts.
  const ask = window.fetch;
  window.fetch = async (...given) => {
    const reply = await ask(...given);
    const paused = reply.status === 429 && new URL(reply.url).pathname === "/login";
    if (paused) alert((await reply.clone().json()).detail);
    return reply;
  };

  const name = () => { pictures(); labels(); toasts(); };
  let waiting = 0;
  // A timer, not animation frames, which stop in a hidden window.
  const soon = () => { waiting ||= setTimeout(() => { waiting = 0; name(); }, 40); };
  const watch = () => {
    const what = { childList: true, subtree: true, characterData: true, attributeFilter: ["alt", "src", "aria-label"] };
    new MutationObserver(soon).observe(document.body, what);
    soon();
  };
  if (document.body) watch(); else document.addEventListener("DOMContentLoaded", watch);

  // Gradio handles the release of a slider only on pointerup, so keys send one.
  const MOVES = ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End", "PageUp", "PageDown"];
  const RESTS = 300;  // milliseconds without a key press after which the slider counts as released
  let resting = 0;
  document.addEventListener("keyup", (event) => {
    if (event.target.type !== "range" || !MOVES.includes(event.key)) return;
    clearTimeout(resting);
    resting = setTimeout(() => event.target.dispatchEvent(new PointerEvent("pointerup", { bubbles: true })), RESTS);
  });
  // Arrow keys move between tabs, as is usual for tab lists.
  document.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || event.target.getAttribute?.("role") !== "tab") return;
    const tabs = [...event.target.closest("[role=tablist]").querySelectorAll("[role=tab]")];
    const next = tabs[(tabs.indexOf(event.target) + step + tabs.length) % tabs.length];
    next.focus();
    next.click();
    event.preventDefault();
  });
})();
