// What the pages do more when scripts run. Everything works without.
"use strict";

// A button beside each piece of code, and beside a key, to copy it.
for (const box of document.querySelectorAll("[data-copy]")) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "button small copy";
  button.textContent = "Copy";
  button.setAttribute("aria-label", `Copy ${box.dataset.copy}`);
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText((box.querySelector("code") || box).textContent.trim());
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
  if (box.classList.contains("secret")) box.after(button);
  else box.append(button);
}

// A double click sends a form once. The first request may have renewed the session, and its response would be lost.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method !== "post") return;
  if (form.dataset.sent) event.preventDefault();
  form.dataset.sent = "yes";
  // After a while somebody may try again on purpose, because no response came.
  setTimeout(() => { delete form.dataset.sent; }, 5000);
});

// The error summary takes the focus, so that a screen reader begins there.
document.querySelector(".summary")?.focus();

// A part of a page that waits for something looks for it every two seconds, for ten minutes.
for (const part of document.querySelectorAll("[data-waits]")) {
  let looks = 300;
  let shown = part.innerHTML.trim();
  const look = async () => {
    try {
      const answer = await fetch(part.dataset.waits, { headers: { Accept: "text/html" } });
      // A redirect leads to the sign-in page, which is no part of this one.
      if (answer.ok && !answer.redirected) {
        const text = await answer.text();
        // A text that was opened stays open: the part is renewed after it is closed.
        if (shown !== text.trim() && !part.querySelector("details[open]")) {
          part.innerHTML = text;
          shown = text.trim();
        }
        if (part.querySelector("[data-arrived]")) return;
      }
    } catch { /* the network is away: look again */ }
    if (--looks > 0) setTimeout(look, 2000);
  };
  setTimeout(look, 2000);
}

// What a bar of a chart stands for.
for (const chart of document.querySelectorAll(".chart")) {
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  document.body.append(tip);
  chart.addEventListener("pointermove", (event) => {
    const bar = event.target.closest?.("[data-tip]");
    tip.hidden = !bar;
    if (!bar) return;
    tip.textContent = bar.dataset.tip;
    const right = Math.min(event.pageX + 12, document.documentElement.clientWidth - tip.offsetWidth - 8);
    tip.style.setProperty("left", `${right}px`);
    tip.style.setProperty("top", `${event.pageY + 12}px`);
  });
  chart.addEventListener("pointerleave", () => { tip.hidden = true; });
}

// Lists can be narrowed while typing.
for (const input of document.querySelectorAll("input[data-narrows]")) {
  input.closest("[hidden]")?.removeAttribute("hidden");
  const rows = document.querySelectorAll(`#${input.dataset.narrows} tbody tr`);
  input.addEventListener("input", () => {
    const wanted = input.value.toLowerCase();
    for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
  });
}
