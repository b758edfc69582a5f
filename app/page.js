// What the page does in the browser besides gradio: remembers dark or light, and gives names to what has none.
(() => {
  const KEY = "evovlm-theme";
  const remembered = () => { try { return localStorage.getItem(KEY); } catch { return null; } };
  const show = (theme) => document.body?.classList.toggle("dark", theme === "dark");

  window.evovlm = {
    theme() { const known = remembered(); if (known) show(known); },
    flip() {
      const theme = document.body.classList.contains("dark") ? "light" : "dark";
      try { localStorage.setItem(KEY, theme); } catch { /* a browser that forbids storage forgets it */ }
      show(theme);
    },
    // On a phone the answers lie below the question.
    reveal(id) {
      if (window.innerWidth > 820) return;
      const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
      document.getElementById(id)?.scrollIntoView({ behavior: calm ? "auto" : "smooth", block: "start" });
    },
  };

  // Gradio names thumbnails by their number and says nothing of answers that arrive.
  const name = () => {
    for (const button of document.querySelectorAll(".samples button")) {
      const told = button.querySelector("img")?.alt;
      if (told && button.getAttribute("aria-label") !== told) button.setAttribute("aria-label", told);
    }
    for (const shown of document.querySelectorAll("[data-testid=image] .image-frame img")) {
      const same = [...document.querySelectorAll(".samples img")].find((sample) => sample.src === shown.src);
      const field = shown.closest(".block")?.querySelector("[data-testid=block-label]")?.innerText.trim();
      const told = same?.alt || field || "";
      if (shown.alt !== told) shown.alt = told;
    }
    for (const box of document.querySelectorAll(".answers-box:not([aria-live])")) box.setAttribute("aria-live", "polite");
  };
  let waiting = 0;
  const soon = () => { if (!waiting) waiting = requestAnimationFrame(() => { waiting = 0; name(); }); };
  document.addEventListener("DOMContentLoaded", () => {
    new MutationObserver(soon).observe(document.body, { childList: true, subtree: true, attributeFilter: ["alt", "src"] });
  });
})();
