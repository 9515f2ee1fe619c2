"use strict";
// The page is whole without this: it adds details on pointing, the filter, the copy button, and
// opens the log where it failed.

/** A message with clock `a` may have led to the one with clock `b`. */
function precedes(a, b) {
  const from = a.dataset.from;
  return a !== b && (a.clock[from] || 0) <= (b.clock[from] || 0);
}

function showCausality(messages, chosen) {
  for (const each of messages) {
    const known = chosen && Object.keys(chosen.clock).length > 0;
    each.classList.toggle("independent", Boolean(known) && each !== chosen
      && !precedes(each, chosen) && !precedes(chosen, each));
    each.classList.toggle("later", Boolean(known) && precedes(chosen, each));
  }
}

for (const figure of document.querySelectorAll(".interactive")) {
  const marks = [...figure.querySelectorAll(figure.dataset.of)];
  const output = figure.parentElement.querySelector("output.details");
  const messages = marks.filter((mark) => mark.dataset.clock);
  for (const each of messages) each.clock = JSON.parse(each.dataset.clock);
  let chosen = null;
  const show = (mark) => {
    if (chosen) chosen.classList.remove("chosen");
    chosen = mark;
    mark.classList.add("chosen");
    output.textContent = mark.querySelector("title").textContent;
    if (messages.length) showCausality(messages, mark);
  };
  figure.addEventListener("pointerover", (event) => {
    const mark = event.target.closest(figure.dataset.of);
    if (mark) show(mark);
  });
  figure.addEventListener("focusin", (event) => {
    const mark = event.target.closest(figure.dataset.of);
    if (mark) show(mark);
  });
  figure.addEventListener("pointerleave", () => {
    if (messages.length) showCausality(messages, null);
  });
  figure.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step || !marks.length) return;
    event.preventDefault();
    const next = marks[(marks.indexOf(chosen) + step + marks.length) % marks.length];
    next.focus();
  });
}

for (const form of document.querySelectorAll("form.filter")) {
  const rows = [...document.querySelectorAll("#logs tbody tr")];
  const apply = () => {
    const text = form.elements.text.value.toLowerCase();
    const node = form.elements.node.value;
    const level = form.elements.level.value;
    let shown = 0;
    for (const row of rows) {
      row.hidden = Boolean((node && row.dataset.node !== node)
        || (level && row.dataset.level !== level)
        || (text && !row.textContent.toLowerCase().includes(text)));
      if (!row.hidden) shown += 1;
    }
    form.querySelector("output").textContent = `${shown} lines`;
  };
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  apply();
}

for (const log of document.querySelectorAll(".log[data-failed-ns]")) {
  const failed = Number(log.dataset.failedNs);
  const rows = [...log.querySelectorAll("tr[data-ns]")];
  const first = rows.find((row) => Number(row.dataset.ns) >= failed);
  if (first) {
    first.classList.add("failed");
    log.scrollTop = first.offsetTop - log.clientHeight / 2;
  }
}

for (const button of document.querySelectorAll("button.copy")) {
  button.addEventListener("click", async () => {
    const source = document.getElementById(button.dataset.of);
    try {
      await navigator.clipboard.writeText(source.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(source); // a file:// page may not write the clipboard
      button.textContent = "Selected: press Ctrl+C";
    }
  });
}
