
const viewer = page.viewer;
let shown = [], current = null, selected = null, shade = "divergence";

const linkOf = (group, rollout) => `#r=${group.run}/${group.step}/${group.group}` + (rollout === undefined ? "" : `/${rollout}`);

function outcomeOf(group) {
  const right = group.rollouts.filter((rollout) => rollout.accuracy === 1).length;
  return right === 0 ? "fail" : right === group.rollouts.length ? "pass" : "mixed";
}

const isTutored = (group) => group.rollouts.some((rollout) => rollout.reason === "tutored");

function haystack(group) {
  if (group.haystack === undefined) {
    const question = viewer.questions[group.question] || {};
    const texts = [group.id, ...(question.parts || []), question.answer, question.hint, question.hint_id, ...group.rollouts.flatMap((rollout) => [rollout.text, rollout.drawn && `drawn with ${rollout.drawn}`])];
    group.haystack = texts.filter((text) => typeof text === "string").join("\n").toLowerCase();
  }
  return group.haystack;
}

function applyFilters() {
  const [run, from, to] = ["f-run", "f-from", "f-to"].map((id) => at(id).value);
  const [outcome, tutored, text] = ["f-outcome", "f-tutored", "f-text"].map((id) => at(id).value);
  const wanted = text.trim().toLowerCase();
  shown = viewer.groups.filter((group) =>
    (run === "" || group.run === Number(run)) && (from === "" || group.step >= Number(from)) && (to === "" || group.step <= Number(to)) &&
    (outcome === "" || outcomeOf(group) === outcome) && (tutored === "" || isTutored(group) === (tutored === "yes")) &&
    (wanted === "" || haystack(group).includes(wanted)));
  at("count").textContent = `${shown.length} of ${viewer.groups.length} groups`;
  at("list").replaceChildren(...shown.map((group) => {
    const dots = make("span", group.rollouts.map((rollout) => make("span", rollout.accuracy === 1 ? "●" : "○", { class: rollout.accuracy === 1 ? "ok" : "no" })), { class: "dots" });
    const name = (runs.length > 1 ? runs[group.run].name + ", " : "") + `step ${group.step}, ${group.id || "group " + group.group}`;
    const button = make("button", [visible(name), make("br"), dots, isTutored(group) ? " tutored" : ""], { type: "button" });
    button.addEventListener("click", () => openGroup(group));
    return make("li", button);
  }));
  if (!shown.includes(current)) showGroup(shown[0] || null);
  else mark();
}

function mark() {
  [...at("list").children].forEach((item, number) => item.firstChild.setAttribute("aria-current", String(shown[number] === current)));
}

function openGroup(group, rollout) {
  history.replaceState(null, "", linkOf(group, rollout));
  showGroup(group, rollout);
}

// Who reads what is shown besides the question: the teacher, or rollouts that were drawn with it.
function readersOf(group) {
  const drawn = group.rollouts.some((rollout) => rollout.drawn);
  if (group.rollouts.every((rollout) => rollout.reason === "off")) return drawn ? "Only the rollouts marked so were drawn with" : "No rollout of this group was drawn with";
  return drawn ? "Only the teacher and the rollouts marked so see" : "Only the teacher sees";
}

function questionOf(group) {
  const question = viewer.questions[group.question];
  if (!question) return make("p", `The question ${group.id} is not in the records.`, { class: "quiet" });
  const picture = (number, whose) => (viewer.images[number]
    ? make("img", null, { src: viewer.images[number], alt: `image of ${whose} ${group.id}` })
    : make("span", "(an image that is missing, or did not fit into the page)", { class: "quiet" }));
  const shown = question.parts.map((part) => (typeof part === "string" ? visible(part) : picture(part, "question")));
  // Images in front of all words stand beside them, others among them.
  const words = question.parts.findIndex((part) => typeof part === "string");
  const images = shown.splice(0, words < 0 ? shown.length : words);
  const parts = [make("p", shown, { class: "pre" }), make("p", ["Answer ", make("b", visible(question.answer))])];
  if (question.hint) parts.push(make("p", [make("b", `${readersOf(group)} (${question.context}, ${question.hint_id}): `), visible(question.hint)], { class: "pre hint" }));
  const seen = (question.seen || []).map((number) => picture(number, "the teacher's view of question"));
  if (seen.length) parts.push(make("p", [make("b", "The teacher sees "), ...seen]));
  if (!question.hint && !seen.length && question.context) parts.push(make("p", `This question has nothing else to be shown (${question.context}).`, { class: "quiet" }));
  return make("div", [...images, make("div", parts)], { class: "question" });
}

function showGroup(group, linked) {
  current = group;
  closeToken();
  mark();
  if (!group) {
    at("group").replaceChildren(make("p", viewer.groups.length ? "No group passes these filters." : "There are no records to show.", { class: "quiet" }));
    return;
  }
  const told = group.rollouts.some((rollout) => rollout.tokens);
  const shades = ["divergence", "entropy", "advantage"].map((name) => {
    const button = make("button", name, { type: "button", "aria-pressed": String(name === shade), "data-shade": name });
    button.addEventListener("click", () => setShade(name));
    return button;
  });
  const head = make("h3", [visible(`step ${group.step}, ${group.id || "group " + group.group} `), make("a", "link", { href: linkOf(group) })]);
  at("group").replaceChildren(head, questionOf(group),
    make("div", [told ? "Shade tokens by" : "No rollout of this group was kept token by token.", ...(told ? shades : [])], { class: "shades" }),
    make("div", group.rollouts.map((rollout) => rolloutCard(group, rollout, linked)), { class: "side" }));
  const card = at("group").querySelector(".linked");
  if (card) card.scrollIntoView({ block: "nearest" });
}

function rolloutCard(group, rollout, linked) {
  const right = rollout.accuracy === 1;
  const verdict = rollout.accuracy === null ? "not graded" : right ? "right" : "wrong";
  const tutored = rollout.reason === "tutored";
  const facts = [`reward ${short(rollout.reward)}`, `advantage ${short(rollout.advantage)}`, `${rollout.size} tokens`];
  const title = make("p", [
    make("b", `${rollout.n + 1} `), make("b", verdict, { class: right ? "ok" : "no" }), " ",
    make("span", tutored ? "tutored" : `not tutored: ${rollout.reason}`, { class: tutored ? "tag tutored" : "tag" }), " ",
    ...(rollout.drawn ? [make("span", `drawn with ${visible(rollout.drawn)}`, { class: "tag hinted" }), " "] : []),
    make("a", "link", { href: linkOf(group, rollout.n) }),
  ]);
  const read = rollout.extracted === null || rollout.extracted === undefined ? "no answer found" : `answer ${visible(rollout.extracted)}${rollout.place ? " (" + rollout.place + ")" : ""}`;
  const body = make("div", rollout.tokens ? tokensOf(group, rollout) : visible(rollout.text), { class: "body pre" });
  const cut = rollout.tokens ? rollout.tokens.cut : rollout.cut;
  if (cut) body.append(make("p", `… ${cut} more ${rollout.tokens ? "tokens" : "characters"} are in the records.`, { class: "quiet" }));
  return make("div", [title, make("p", [...facts, read, `judged by ${visible(group.reader || "an unknown reader")}`].join(" · "), { class: "facts" }), body],
    { class: `rollout ${right ? "right" : "wrong"}${linked === rollout.n ? " linked" : ""}` });
}

function strength(rollout, number) {
  if (shade === "advantage") return [Math.min(1, Math.abs(rollout.advantage) / 2) * 0.75, rollout.advantage > 0 ? "--plus" : "--shade"];
  const values = rollout.tokens[shade];
  if (!values) return [0, "--shade"];
  return [0.85 * Math.min(1, values[number] / (scaleOf(current, shade) || 1)), "--shade"];
}

// One scale for the rollouts of a group, so that they compare: its 95th percentile.
function scaleOf(group, name) {
  const key = `scale ${name}`;
  if (group[key] === undefined) {
    const values = group.rollouts.flatMap((rollout) => (rollout.tokens && rollout.tokens[name]) || []).sort((a, b) => a - b);
    group[key] = values.length ? Math.max(values[Math.floor(0.95 * (values.length - 1))], 1e-9) : 0;
  }
  return group[key];
}

const textOf = (run, id) => (viewer.texts[run][id] === undefined ? `#${id}` : viewer.texts[run][id]);

function tokensOf(group, rollout) {
  return rollout.tokens.ids.map((id, number) => {
    const text = textOf(group.run, id);
    const token = make("span", visible(text.replace(/\n/g, "⏎\n")) || "∅", { class: "token", "data-n": number });
    paint(token, rollout, number);
    token.addEventListener("click", () => openToken(group, rollout, number, token));
    token.rollout = rollout;
    return token;
  });
}

function paint(token, rollout, number) {
  const [alpha, name] = strength(rollout, number);
  token.style.backgroundColor = alpha ? `rgba(var(${name}), ${alpha.toFixed(3)})` : "";
}

function setShade(name) {
  shade = name;
  for (const button of document.querySelectorAll("[data-shade]")) button.setAttribute("aria-pressed", String(button.dataset.shade === name));
  for (const token of document.querySelectorAll(".token")) paint(token, token.rollout, Number(token.dataset.n));
}

function side(title, leading, group, sampled) {
  if (!leading) return make("div", [make("h3", title), make("p", title === "Teacher" ? "did not read this rollout" : "not recorded", { class: "quiet" })]);
  const rows = leading[0].map((id, place) => {
    const fill = make("i");
    fill.style.width = `${100 * leading[1][place]}%`;
    return make("div", [fill, make("span", visible(textOf(group.run, id).replace(/\n/g, "⏎")) || "∅"), make("span", (100 * leading[1][place]).toFixed(1))], { class: id === sampled ? "prob sampled" : "prob" });
  });
  const rest = Math.max(0, 1 - leading[1].reduce((a, b) => a + b, 0));
  return make("div", [make("h3", title + ", %"), ...rows, make("p", `all others ${(100 * rest).toFixed(1)}`, { class: "quiet" })]);
}

function openToken(group, rollout, number, token) {
  closeToken();
  selected = { group, rollout, number };
  token.setAttribute("aria-current", "true");
  token.scrollIntoView({ block: "nearest" });
  const told = rollout.tokens, id = told.ids[number];
  const facts = [`log-prob ${short(told.log_probs[number])}`, `entropy ${short(told.entropy[number])}`];
  facts.push(told.divergence ? `divergence ${short(told.divergence[number])} nats` : "not tutored");
  const close = make("button", "×", { type: "button", class: "close", "aria-label": "Close" });
  close.addEventListener("click", closeToken);
  at("distribution").replaceChildren(close,
    make("p", [`Token ${number + 1} of ${told.ids.length}: `, make("b", visible(textOf(group.run, id)))]),
    make("p", facts.join(" · "), { class: "quiet" }),
    make("div", [side("Student", told.student && told.student[number], group, id), side("Teacher", told.teacher && told.teacher[number], group, id)], { class: "pair" }));
  at("distribution").hidden = false;
}

function closeToken() {
  at("distribution").hidden = true;
  selected = null;
  for (const token of document.querySelectorAll(".token[aria-current]")) token.removeAttribute("aria-current");
}

function moveToken(by) {
  const tokens = [...document.querySelectorAll(".token")].filter((token) => token.rollout === selected.rollout);
  const next = selected.number + by;
  if (tokens[next]) openToken(selected.group, selected.rollout, next, tokens[next]);
}

// The tokens of the first rollout that has any, or from there those of the next one.
function moveRollout(by) {
  const kept = current ? current.rollouts.filter((rollout) => rollout.tokens && rollout.tokens.ids.length) : [];
  const next = kept[selected ? kept.indexOf(selected.rollout) + by : 0];
  const token = next && [...document.querySelectorAll(".token")].find((each) => each.rollout === next);
  if (token) openToken(current, next, 0, token);
}

function moveGroup(by) {
  const next = shown[shown.indexOf(current) + by];
  if (!next) return;
  openGroup(next);
  at("list").children[shown.indexOf(next)].scrollIntoView({ block: "nearest" });
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") { closeToken(); document.activeElement.blur(); return; }
  if (/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
  const actions = { j: () => moveGroup(1), k: () => moveGroup(-1), "/": () => at("f-text").focus(),
    t: () => moveRollout(selected ? 1 : 0), d: () => setShade("divergence"), e: () => setShade("entropy"), a: () => setShade("advantage") };
  if (selected) {
    Object.assign(actions, { ArrowRight: () => moveToken(1), ArrowLeft: () => moveToken(-1),
      ArrowDown: () => moveRollout(1), ArrowUp: () => moveRollout(-1) });
  }
  if (actions[event.key]) { event.preventDefault(); actions[event.key](); }
}

function followLink() {
  const found = /^#r=(\d+)\/(\d+)\/(\d+)(?:\/(\d+))?$/.exec(location.hash);
  if (!found) return;
  const [run, step, number] = found.slice(1, 4).map(Number);
  const group = viewer.groups.find((each) => each.run === run && each.step === step && each.group === number);
  if (!group) { at("count").textContent = `The linked group (step ${step}, group ${number}) is not on this page.`; return; }
  if (!shown.includes(group)) { at("filters").reset(); applyFilters(); }
  showGroup(group, found[4] === undefined ? undefined : Number(found[4]));
  at("rollouts").scrollIntoView();
}

function startViewer() {
  at("f-run").append(make("option", "all", { value: "" }), ...runs.map((run, number) => make("option", run.name, { value: number })));
  at("by-run").hidden = runs.length < 2;
  const left = viewer.left_out ? ` ${viewer.left_out} recorded groups did not fit into the page; they are in the records.` : "";
  at("sample").textContent = `A sample of the recorded groups, spread over the steps.${left} Click a token to see what student and teacher would have said there.`;
  at("filters").addEventListener("submit", (event) => event.preventDefault());
  at("filters").addEventListener("input", applyFilters);
  at("filters").addEventListener("reset", () => setTimeout(applyFilters));
  document.addEventListener("keydown", onKey);
  addEventListener("hashchange", followLink);
  applyFilters();
  followLink();
}
