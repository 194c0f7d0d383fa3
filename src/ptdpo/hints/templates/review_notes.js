// What a reviewer writes: why a hint is rejected, and what it should say instead; and what was measured beside it.
// Kept as marks are, by a key that changes with the hint.
const noteOf = (row) => notes[row.key] || {};
const editOf = (row) => noteOf(row).edit || null;

function note(row, changes) {
  notes[row.key] = { ...noteOf(row), ...changes };
  if (!notes[row.key].why && !notes[row.key].edit) delete notes[row.key];
  write(NOTES, notes);
}

function paintNotes(row, card) {
  const written = card.querySelector(".written");
  if (!written.querySelector("textarea")) written.replaceChildren(...hintParts(row, card));
  card.querySelector(".because").hidden = markOf(row) !== "rejected";
}

function hintParts(row, card) {
  const edit = editOf(row), now = edit || row;
  const parts = [element("dl", { class: "hint" },
    element("div", {}, element("dt", {}, "Look"), element("dd", {}, now.look)),
    element("div", {}, element("dt", {}, "Reason"), element("dd", {}, now.reason)))];
  if (edit) {
    const left = markOf(row) === "accepted" ? "Edited" : "Edited, but not accepted: the list leaves the edit out";
    parts.push(element("p", { class: "edited" }, element("span", {}, left), element("button", { type: "button", class: "link",
      onclick: () => { note(row, { edit: null }); paintNotes(row, card); } }, "Take the edit back")));
  }
  return parts;
}

function whyLine(row, card) {
  const field = element("input", { type: "text", maxlength: "500", placeholder: "Why? The next hint writer is told" });
  field.value = noteOf(row).why || "";
  field.addEventListener("input", () => note(row, { why: field.value.trim() }));
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter") point(current + 1, true);
    if (event.key === "Escape") card.focus();
  });
  return element("label", { class: "because" }, element("span", { class: "quiet" }, "Reason of the rejection"), field);
}

// Opens or closes the fields in which a hint is rewritten; saving accepts it.
function edit(row, card) {
  const written = card.querySelector(".written"), now = editOf(row) || row;
  const area = (label, text) => {
    const field = element("textarea", { rows: "3" });
    field.value = text;
    return [field, element("label", {}, element("span", { class: "quiet" }, label), field)];
  };
  const [look, lookLine] = area("Look", now.look);
  const [reason, reasonLine] = area("Reason", now.reason);
  const close = () => { written.replaceChildren(); paintNotes(row, card); card.focus({ preventScroll: true }); };
  const save = () => {
    const texts = { look: look.value.trim(), reason: reason.value.trim() };
    if (!texts.look || !texts.reason) { (texts.look ? reason : look).focus(); return; }
    const same = texts.look === row.look.trim() && texts.reason === row.reason.trim();
    note(row, { edit: same ? null : texts });
    if (!same && markOf(row) !== "accepted") setMark(row, "accepted", card);
    close();
  };
  const form = element("div", { class: "editor" }, lookLine, reasonLine, element("div", {},
    element("button", { type: "button", class: "button", onclick: save }, "Save and accept"),
    element("button", { type: "button", class: "link", onclick: close }, "Cancel")));
  form.addEventListener("keydown", (event) => {
    if (event.key === "Escape") close();
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) save();
  });
  written.replaceChildren(form);
  look.focus();
}

function editButton(row, card, position) {
  return element("button", { type: "button", class: "button", onclick: () => { point(position, false); edit(row, card); } },
    "Edit", element("kbd", { class: "keyboard", "aria-hidden": "true" }, "e"));
}

const currentCard = () => byId("cards").children[current - page * PAGE_SIZE];

function editCurrent() {
  if (current < 0) point(0, true);
  if (current >= 0) edit(shown[current], currentCard());
}

function writeWhy() {
  if (current < 0) point(0, true);
  if (current < 0) return;
  if (markOf(shown[current]) !== "rejected") setMark(shown[current], "rejected", currentCard());
  currentCard().querySelector(".because input").focus();
}

const rounded = (value) => String(Number(value.toPrecision(3)));

function measures(row) {
  const lines = [];
  if (row.guessed) {
    const { right, of, chance, p } = row.guessed;
    lines.push(["Guessed from the hint alone", `${right} of ${of} (chance ${rounded(chance)}, p ${rounded(p)})`]);
  }
  if (row.answered) {
    const { without, with: shown, of, gain } = row.answered;
    lines.push(["Answered right", `${without} of ${of} without, ${shown} of ${of} with: ${gain < 0 ? "" : "+"}${rounded(gain)}`]);
  }
  return element("dl", { class: "measures" }, ...lines.map(([name, text]) =>
    element("div", {}, element("dt", {}, name), element("dd", {}, text))));
}

// What is missing comes last, whatever the order.
const ORDERS = {
  gain: (row) => (row.answered ? row.answered.gain : Infinity),
  guessed: (row) => (row.guessed ? row.guessed.p : Infinity),
  right: (row) => (row.guessed ? -row.guessed.right / row.guessed.of : Infinity),
};

function orders() {
  const found = [["file", "Order of the file"]];
  if (rows.some((row) => row.answered)) found.push(["gain", "Least useful first"]);
  if (rows.some((row) => row.guessed)) found.push(["guessed", "Surest giveaway first"], ["right", "Most guessed first"]);
  return found;
}

function sorted(found, by) {
  if (by === "file") return found;
  const key = ORDERS[by];
  return [...found].sort((one, other) => (key(one) === key(other) ? 0 : key(one) < key(other) ? -1 : 1));
}

function listOf(all) {
  const list = { accepted: [], rejected: [] }, reasons = Object.create(null), edited = Object.create(null);
  for (const row of all) {
    const mark = markOf(row), { why, edit: changed } = noteOf(row);
    if (mark !== "open") list[mark].push(row.id);
    if (mark === "rejected" && why) reasons[row.id] = why;
    if (mark === "accepted" && changed) edited[row.id] = changed;
  }
  if (Object.keys(reasons).length) list.reasons = reasons;
  if (Object.keys(edited).length) list.edited = edited;
  return list;
}
