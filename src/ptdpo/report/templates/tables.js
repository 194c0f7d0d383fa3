
function table(columns, rows, kind) {
  const head = make("tr", columns.map((name) => make("th", name, { scope: "col" })));
  const body = rows.map(({ cells, differs }) => make("tr", cells.map((cell) => make("td", cell)), { class: differs ? "differs" : null }));
  return make("table", [make("thead", head), make("tbody", body)], { class: kind });
}

function startFindings() {
  const many = runs.length > 1;
  for (const run of runs) {
    for (const found of run.findings) {
      at("findings").append(make("div", [
        make("h3", (many ? run.name + ": " : "") + found.says),
        make("p", found.evidence, { class: "quiet" }),
        make("p", found.remedy),
      ], { class: `finding ${found.weight}`, "data-kind": found.kind }));
    }
    if (!run.findings.length) {
      at("findings").append(make("div", [make("h3", (many ? run.name + ": n" : "N") + "othing stands out."), make("p", "None of the rules of thumb of this page is broken.", { class: "quiet" })], { class: "finding fine" }));
    }
  }
}

function startThroughput() {
  const parts = page.parts.filter((part) => runs.some((run) => run.throughput[part]));
  if (!parts.length) {
    at("throughput").append(make("p", "No seconds were logged.", { class: "quiet" }));
    return;
  }
  at("throughput").append(legend(parts, parts.map((_, number) => colour(number))));
  for (const run of runs) {
    const seconds = parts.map((part) => run.throughput[part] || 0), total = seconds.reduce((a, b) => a + b, 0);
    const bar = make("div", seconds.map((value, number) => {
      const piece = make("span", "", { title: `${parts[number]}: ${short(value)} s` });
      piece.style.width = `${100 * value / (total || 1)}%`;
      piece.style.background = colour(number);
      return piece;
    }), { class: "bar" });
    const rates = ["steps per hour", "tokens per second"].filter((name) => run.throughput[name]).map((name) => `${short(run.throughput[name])} ${name}`);
    const each = parts.map((part, number) => `${part} ${short(seconds[number])} s (${(100 * seconds[number] / (total || 1)).toFixed(0)} %)`);
    at("throughput").append(make("h3", run.name), make("p", [`${short(total)} s a step`, ...rates].join(" · ")), bar, make("p", each.join(" · "), { class: "quiet" }));
  }
}

function startSettings() {
  const names = [...new Set(runs.flatMap((run) => Object.keys(run.settings)))];
  const rows = names.map((name) => {
    const values = runs.map((run) => run.settings[name] || "");
    return { cells: [name, ...values], differs: new Set(values).size > 1 };
  });
  at("made").append(names.length ? table(["", ...runs.map((run) => run.name)], rows, "made") : make("p", "The runs do not say what they were made with.", { class: "quiet" }));
}

function startTables() {
  at("about").textContent = runs.map((run) => `${run.name}: ${run.steps} steps, ${run.finished ? "finished" : "in progress or stopped"}`).join(" · ");
  startFindings();
  // The interval stands below its mean: so all columns fit.
  const stacked = (cell) => {
    const place = cell.indexOf(" [");
    return place < 0 ? cell : [cell.slice(0, place), make("br"), make("small", cell.slice(place + 1), { class: "quiet" })];
  };
  at("table").append(table(page.columns, runs.map((run) => ({ cells: [run.name, ...run.cells.slice(1).map(stacked)] }))));
  startThroughput();
  startSettings();
}
