"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const PAGE_SIZE = 20;
const NAMES = { answer: "Gives the answer", intermediate: "Exposes a number", no_evidence: "Names no evidence", solution: "Full solution" };
const STORE = "ptdpo-review/" + data.title;
const byId = (id) => document.getElementById(id);

// Everything from a model or a data set goes in as text, never as markup.
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") made.className = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

const rows = data.rows;
for (const row of rows) {
  row.haystack = [row.id, row.source, row.problem, row.answer, row.look, row.reason].join("\n").toLowerCase();
}

// Marks are kept by a key that changes with the hint: a new hint for the same problem starts unmarked.
const MARKS = STORE, NOTES = STORE + "/notes";
let marks = read(MARKS);
let notes = read(NOTES);
try {
  localStorage.setItem(STORE + "/probe", "1");
} catch (error) {
  byId("no-storage").hidden = false;
}

function read(key) {
  try {
    return JSON.parse(localStorage.getItem(key) || "{}") || {};
  } catch (error) {
    return {};
  }
}

function write(key, value) {
  try {
    localStorage.setItem(key, JSON.stringify(value));
  } catch (error) {
    byId("no-storage").hidden = false;
  }
}

// The same page in another tab, or a write that reaches storage only after this page has read it.
window.addEventListener("storage", (event) => {
  if (event.key !== MARKS && event.key !== NOTES) return;
  marks = read(MARKS);
  notes = read(NOTES);
  paintTotals();
  if (!document.querySelector(".editor, .because input:focus")) paint();
});

let order = "file";
const filter = { mark: "all", verdict: "all", reason: "all", text: "" };
let shown = rows;
let page = 0;
let current = -1;

const markOf = (row) => marks[row.key] || "open";

function matches(row) {
  return (filter.mark === "all" || markOf(row) === filter.mark)
    && (filter.verdict === "all" || row.ok === (filter.verdict === "fit"))
    && (filter.reason === "all" || row.names.includes(filter.reason))
    && filter.text.split(/\s+/).every((word) => row.haystack.includes(word));
}

function setMark(row, mark, card) {
  if (mark === "open" || markOf(row) === mark) delete marks[row.key];
  else marks[row.key] = mark;
  write(MARKS, marks);
  paintMark(row, card);
  paintTotals();
  byId("said").textContent = markOf(row) === "open" ? `${row.id}: no mark` : `${row.id}: ${markOf(row)}`;
}

function paintMark(row, card) {
  const mark = markOf(row);
  const note = card.querySelector(".marked");
  note.textContent = mark === "open" ? "" : mark;
  note.className = "marked " + mark;
  card.classList.toggle("is-accepted", mark === "accepted");
  card.classList.toggle("is-rejected", mark === "rejected");
  card.querySelector(".accept").setAttribute("aria-pressed", String(mark === "accepted"));
  card.querySelector(".reject").setAttribute("aria-pressed", String(mark === "rejected"));
  paintNotes(row, card);
}

function paintTotals() {
  const count = { accepted: 0, rejected: 0, open: 0 };
  for (const row of rows) count[markOf(row)] += 1;
  for (const [name, number] of Object.entries(count)) {
    byId("n-" + name).textContent = number;
    const chip = document.querySelector(`#by-mark [data-value="${name}"]`);
    if (chip) chip.textContent = number;
  }
  const share = (number) => (rows.length ? (100 * number) / rows.length : 0) + "%";
  byId("meter").querySelector(".accepted").style.width = share(count.accepted);
  byId("meter").querySelector(".rejected").style.width = share(count.rejected);
  byId("meter").setAttribute("aria-label", `${count.accepted} accepted, ${count.rejected} rejected, ${count.open} open`);
  byId("download").disabled = count.accepted + count.rejected === 0;
}

function picture(row, number, place) {
  const label = `Image ${place + 1} of problem ${row.id}`;
  const image = element("img", { alt: label, loading: "lazy", decoding: "async" });
  image.addEventListener("load", () => image.classList.toggle("tiny", image.naturalWidth < 160));
  image.src = data.images[number];
  return element("button", { type: "button", "aria-label": `Enlarge: ${label}`, onclick: () => enlarge(image) }, image);
}

function enlarge(image) {
  const large = byId("zoom").querySelector("img");
  large.src = image.src;
  large.alt = image.alt;
  large.className = image.className;
  byId("zoom").showModal();
}

function answerLine(row) {
  const value = element("output", {}, row.answer);
  const button = element("button", { type: "button", class: "link" }, "Show answer");
  button.addEventListener("click", () => { value.hidden = false; button.hidden = true; });
  value.hidden = byId("hide").checked;
  button.hidden = !value.hidden;
  return element("p", { class: "answer" }, element("span", { class: "quiet" }, "Answer"), value, button);
}

function reasons(row) {
  const lines = row.names.map((name, n) => element("li", {}, element("b", {}, NAMES[name] || name), " ", element("span", {}, row.reasons[n])));
  return element("ul", { class: "why", "aria-label": "Why the rules reject it" }, ...lines);
}

// Images whose places the text names stand there; the others beside it.
function questionParts(row) {
  const pieces = row.problem.split("<image>");
  if (pieces.length === 1 || pieces.length !== row.images.length + 1) return [row.problem];
  return pieces.flatMap((piece, n) => n === 0 ? [piece] : [picture(row, row.images[n - 1], n - 1), piece]);
}

function cardOf(row, position) {
  const title = `question-${position}`;
  const card = element("article", { class: "card", tabindex: "-1", "aria-labelledby": title });
  const question = questionParts(row);
  if (row.images.length && question.length === 1) {
    card.classList.add("with-picture");
    card.append(element("div", { class: "pictures" }, ...row.images.map((number, n) => picture(row, number, n))));
  }
  const meta = element("div", { class: "meta" },
    element("span", { class: "badge " + (row.ok ? "fit" : "unfit") }, row.ok ? "Passes" : "Rejected by rule"),
    element("span", {}, row.source ? `${row.id} · ${row.source}` : row.id),
    element("span", { class: "marked" }));
  const hint = element("div", { class: "written" });
  const text = element("div", { class: "text" }, meta,
    element("h2", { class: "question", id: title, style: "color: inherit" }, ...question), answerLine(row), hint);
  if (!row.ok) text.append(reasons(row));
  if (row.guessed || row.answered) text.append(measures(row));
  text.append(whyLine(row, card));
  const button = (mark, label, key) => element("button",
    { type: "button", class: `button ${label.toLowerCase()}`, onclick: () => { point(position, false); setMark(row, mark, card); } },
    label, element("kbd", { class: "keyboard", "aria-hidden": "true" }, key));
  card.append(text, element("div", { class: "actions" }, button("accepted", "Accept", "a"), button("rejected", "Reject", "r"), editButton(row, card, position)));
  card.addEventListener("focusin", () => point(position, false));
  paintMark(row, card);
  return card;
}

// Only one page of cards exists at a time, so that thousands of hints stay quick.
function paint() {
  const first = page * PAGE_SIZE;
  const cards = shown.slice(first, first + PAGE_SIZE).map((row, n) => cardOf(row, first + n));
  if (!cards.length) cards.push(element("p", { class: "empty panel" }, rows.length ? "No hint matches these filters." : "This page holds no hints."));
  byId("cards").replaceChildren(...cards);
  const pages = Math.max(1, Math.ceil(shown.length / PAGE_SIZE));
  byId("page").textContent = `Page ${page + 1} of ${pages}`;
  byId("previous").disabled = page === 0;
  byId("next").disabled = page >= pages - 1;
  byId("pages").hidden = pages === 1;
  byId("count").textContent = shown.length === rows.length ? `${rows.length} hints` : `${shown.length} of ${rows.length} hints`;
  const active = ["mark", "verdict", "reason"].filter((name) => filter[name] !== "all").length;
  byId("active").textContent = active ? `(${active} on)` : "";
  byId("clear").hidden = shown.length === rows.length && !filter.text;
}

function refilter() {
  shown = sorted(rows.filter(matches), order);
  page = 0;
  current = -1;
  paint();
}

function turn(to, focus) {
  page = to;
  paint();
  current = -1;
  if (focus) point(focus === "last" ? Math.min(shown.length, (page + 1) * PAGE_SIZE) - 1 : page * PAGE_SIZE, true);
  else window.scrollTo(0, byId("cards").offsetTop > 200 && window.innerWidth < 1024 ? byId("cards").offsetTop - 60 : 0);
}

// Makes a hint the current one; with ``go`` it also gets the focus, on another page if need be.
function point(position, go) {
  if (position < 0 || position >= shown.length) return;
  const target = Math.floor(position / PAGE_SIZE);
  if (target !== page) {
    page = target;
    paint();
  }
  const cards = byId("cards").children;
  for (const card of cards) card.classList.remove("current");
  const card = cards[position - page * PAGE_SIZE];
  card.classList.add("current");
  current = position;
  if (go) {
    card.focus({ preventScroll: true });
    card.scrollIntoView({ block: "nearest" });
  }
}

const KEYS = {
  j: () => point(current + 1, true),
  k: () => point(Math.max(0, current - 1), true),
  a: () => markCurrent("accepted"),
  r: () => markCurrent("rejected"),
  u: () => markCurrent("open"),
  w: () => writeWhy(),
  e: () => editCurrent(),
  h: () => { byId("hide").click(); },
  "/": () => byId("search").focus(),
  "?": () => byId("keys").showModal(),
};

function markCurrent(mark) {
  if (current < 0) return point(0, true);
  const row = shown[current];
  const card = byId("cards").children[current - page * PAGE_SIZE];
  if (mark === "open" || markOf(row) !== mark) setMark(row, mark, card);
  if (mark !== "open") point(current + 1, true);
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const typing = event.target.matches("input[type=search], input[type=text], textarea, select");
  if (typing && event.key === "Escape") event.target.blur();
  if (typing || !(event.key in KEYS)) return;
  event.preventDefault();
  KEYS[event.key]();
});

function chips(group, name, choices) {
  byId(group).querySelector(".chips").append(...choices.map(([value, label, number]) => {
    const input = element("input", { type: "radio", name, value });
    input.checked = value === "all";
    input.addEventListener("change", () => { filter[name] = value; refilter(); });
    const text = element("span", {}, label);
    if (number !== undefined) text.append(element("b", { "data-value": value }, String(number)));
    return element("label", { class: "chip" }, input, text);
  }));
}

const fit = rows.filter((row) => row.ok).length;
chips("by-mark", "mark", [["all", "All"], ["open", "Open", 0], ["accepted", "Accepted", 0], ["rejected", "Rejected", 0]]);
chips("by-verdict", "verdict", [["all", "All"], ["fit", "Passes", fit], ["unfit", "Rejected", rows.length - fit]]);
chips("by-reason", "reason", [["all", "Any"], ...data.names.map((name) => [name, NAMES[name] || name, rows.filter((row) => row.names.includes(name)).length])]);
byId("summary").textContent = `${rows.length} hints, ${rows.length - fit} rejected by the rules`;

let waiting = 0;
byId("search").addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(() => { filter.text = byId("search").value.trim().toLowerCase(); refilter(); }, 120);
});
byId("clear").addEventListener("click", () => {
  Object.assign(filter, { mark: "all", verdict: "all", reason: "all", text: "" });
  byId("search").value = "";
  for (const input of document.querySelectorAll('.chip input[value="all"]')) input.checked = true;
  refilter();
});
byId("hide").addEventListener("change", () => {
  for (const line of document.querySelectorAll(".answer")) {
    line.querySelector("output").hidden = byId("hide").checked;
    line.querySelector("button").hidden = !byId("hide").checked;
  }
});
byId("previous").addEventListener("click", () => turn(page - 1));
byId("next").addEventListener("click", () => turn(page + 1));
byId("help").addEventListener("click", () => byId("keys").showModal());
byId("download").addEventListener("click", () => {
  const list = listOf(rows);
  const url = URL.createObjectURL(new Blob([JSON.stringify(list, null, 1) + "\n"], { type: "application/json" }));
  const link = element("a", { href: url, download: data.title.replace(/\.jsonl$/, "") + ".review.json" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
});
byId("order").append(...orders().map(([value, label]) => element("option", { value }, label)));
byId("order").addEventListener("change", () => { order = byId("order").value; refilter(); });
byId("sorting").hidden = byId("order").options.length === 1;
const wide = matchMedia("(min-width: 64rem)");
const openOnWide = () => { byId("sheet").open = wide.matches; };
wide.addEventListener("change", openOnWide);
openOnWide();
paintTotals();
paint();
