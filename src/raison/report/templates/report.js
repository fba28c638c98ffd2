"use strict";
// The page's only script: theme, sorting, slices, and the gallery of records. It loads nothing and keeps nothing but
// the theme. Texts of records reach the page as text nodes only.
(() => {
  const $ = (selector, root = document) => root.querySelector(selector);
  const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
  const COLLAPSED = 700; // characters of a field that are shown at first
  const HIDDEN = /[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060\u2066-\u2069\ufeff\ud800-\udfff]/gu;
  const number = (value, digits = 2) => (value == null ? "–" : value.toFixed(digits).replace("-", "−"));
  const count = (value) => value.toLocaleString("en");

  function make(tag, properties = {}, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children.filter((child) => child != null));
    return element;
  }

  // Append a text to an element; characters that would hide or reorder text are shown by their code.
  function write(element, text) {
    let done = 0;
    for (const hit of text.matchAll(HIDDEN)) {
      const code = hit[0].charCodeAt(0).toString(16).toUpperCase().padStart(4, "0");
      element.append(text.slice(done, hit.index), make("span", { className: "hidden-character", textContent: `U+${code}` }));
      done = hit.index + 1;
    }
    if (done < text.length) element.append(text.slice(done));
    return element;
  }
  const shorten = (text, longest = 200) => (text.length <= longest ? text : `${text.slice(0, longest)}…`);
  const named = (text) => write(make("bdi"), shorten(text) || "(no name)");

  // ------------------------------------------------------------------------------------------------ theme, links

  const root = document.documentElement;
  const theme = $("#theme");
  const stored = { get: () => { try { return localStorage.getItem("raison-theme"); } catch { return null; } },
                   set: (value) => { try { localStorage.setItem("raison-theme", value); } catch { /* a frame without storage */ } } };
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches);
  function nameTheme() { theme.textContent = isDark() ? "Light" : "Dark"; theme.setAttribute("aria-label", `${theme.textContent} theme`); }
  if (["light", "dark"].includes(stored.get())) root.dataset.theme = stored.get();
  theme.hidden = false;
  theme.onclick = () => { root.dataset.theme = isDark() ? "light" : "dark"; stored.set(root.dataset.theme); nameTheme(); };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", nameTheme);
  nameTheme();

  for (const link of $$('a[href^="#"]')) { // inside a notebook's frame, a plain fragment would leave the page
    link.onclick = (event) => { event.preventDefault(); const target = $(link.hash); target.scrollIntoView(); target.focus({ preventScroll: true }); };
  }
  for (const element of $$("[data-needs-script]")) element.hidden = false;

  // ------------------------------------------------------------------------------------------------ tables

  function sort(table, column, header) {
    const first = header.dataset.first;
    const before = header.getAttribute("aria-sort");
    const direction = before ? (before === "ascending" ? "descending" : "ascending") : first;
    for (const other of $$("thead th", table)) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", direction);
    const key = (row) => { const cell = row.cells[column]; return cell.classList.contains("figure") ? (cell.dataset.order ?? null) : cell.textContent; };
    const compare = (a, b) => (header.classList.contains("figure") ? a - b : a.localeCompare(b, undefined, { numeric: true }));
    for (const body of $$("tbody.rows", table)) {
      const rows = [...body.rows].map((row) => [key(row), row]);
      rows.sort(([a], [b]) => (a === null) - (b === null) || (a === null ? 0 : (direction === "ascending" ? 1 : -1) * compare(a, b)));
      body.append(...rows.map(([, row]) => row)); // what is undefined stands last in both directions
    }
  }
  for (const table of $$("table.sortable")) {
    $$("thead th", table).forEach((header, column) => { if (header.dataset.first) $("button", header).onclick = () => sort(table, column, header); });
  }

  if ($("#slice")) {
    $("#slice").onchange = (event) => { for (const part of $$("[data-slice]")) part.hidden = part.dataset.slice !== event.target.value; };
    $("#all-metrics").onchange = (event) => $("#methods").classList.toggle("with-all", event.target.checked);
    if (!$(".methods .more")) $("#all-metrics").closest("label").hidden = true;
  }

  if ($("#comparisons")) {
    const rows = $$("table.comparisons tbody tr");
    const show = () => {
      const metric = $("#compared-metric").value, outcome = $("#compared-outcome").value;
      for (const row of rows) row.hidden = Boolean((metric && row.dataset.metric !== metric) || (outcome && row.dataset.outcome !== outcome));
      $("#compared-count").textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} comparisons`;
    };
    $("#compared-metric").onchange = $("#compared-outcome").onchange = show;
    if (rows.length > 30) $("#compared-metric").selectedIndex = 1;
    show();
  }

  // ------------------------------------------------------------------------------------------------ records

  const data = JSON.parse($("#data").textContent);
  const label = (index) => (index == null ? null : data.labels[index]);
  const items = data.items.map(unpack);
  const PER_PAGE = Number($("#gallery").dataset.perPage);
  let matching = items;
  let page = 0;

  // The other half of `pack` in gallery.py.
  function unpack([id, fields, gold, predicted, probability, people, sources, unseen, full]) {
    return {
      id, gold, predicted, probability, unseen, full,
      fields: fields.map(([name, text, gaps]) => ({ name: data.fields[name], text, gaps })),
      people: people.map(([name, words]) => ({ name: data.people[name], words })),
      sources: sources.map(([name, words, letters, largest, metrics, without, only, failure]) =>
        ({ source: name, words, letters, largest, metrics, without, only, failure })),
    };
  }
  const flips = (item, said) => item.predicted != null && said.without != null && said.without !== item.predicted;

  // ---- filters

  const chosenSource = () => ($("#source").value === "" ? null : Number($("#source").value));
  const saidBy = (item) => { const source = chosenSource(); return item.sources.filter((said) => (source == null || said.source === source)); };
  const apart = (a, b) => a.words.length > 0 && b.words.length > 0 && !a.words.some((word) => b.words.includes(word));
  const f1 = (a, b) => (2 * a.words.filter((word) => b.words.includes(word)).length) / (a.words.length + b.words.length || 1);
  const twoOf = (list, test) => list.some((a, index) => list.slice(index + 1).some((b) => test(a, b)));
  const AGREEMENT = {
    none: (item) => item.people.some((person) => person.words.length) && saidBy(item).some((said) => said.words.length && item.people.every((person) => !person.words.length || apart(person, said))),
    most: (item) => saidBy(item).some((said) => item.people.some((person) => f1(person, said) >= 2 / 3)),
    methods: (item) => (chosenSource() == null ? twoOf(item.sources, apart) : saidBy(item).some((said) => item.sources.some((other) => apart(said, other)))),
    people: (item) => twoOf(item.people, apart),
  };
  const searched = (item) => (item.haystack ??= [item.id, ...item.fields.map((field) => field.text)].join("\n").toLowerCase());

  function matches() {
    const gold = $("#gold").value, predicted = $("#predicted").value, agreement = AGREEMENT[$("#agreement").value];
    const needle = $("#search").value.trim().toLowerCase(), onlyFlips = $("#flips").checked;
    return items.filter((item) =>
      (gold === "" || item.gold === Number(gold)) &&
      (predicted === "" || (predicted === "wrong" ? item.predicted != null && item.gold != null && item.predicted !== item.gold : item.predicted === Number(predicted))) &&
      (!onlyFlips || saidBy(item).some((said) => flips(item, said))) &&
      (!agreement || agreement(item)) &&
      (needle === "" || searched(item).includes(needle)));
  }

  function inOrder(found) {
    const direction = Number($("#order").value), metric = Number($("#metric").value);
    if (!direction) return found;
    const mean = (item) => { const known = saidBy(item).map((said) => said.metrics[metric]).filter((value) => value != null); return known.length ? known.reduce((a, b) => a + b) / known.length : null; };
    return found.map((item) => [mean(item), item]).sort(([a], [b]) => (a === null) - (b === null) || direction * (a - b)).map(([, item]) => item);
  }

  function filter() { matching = inOrder(matches()); showPage(0); }

  // ---- one page

  function showPage(wanted) {
    const pages = Math.max(1, Math.ceil(matching.length / PER_PAGE));
    page = Math.min(Math.max(0, wanted), pages - 1);
    const start = page * PER_PAGE, found = matching.slice(start, start + PER_PAGE);
    $("#page").replaceChildren(...found.map(record));
    if (!found.length) $("#page").append(make("p", { className: "note", textContent: items.length ? "No record passes these filters." : "There are no records in these results." }));
    const said = found.length ? `${count(start + 1)}–${count(start + found.length)} of ${count(matching.length)} records` : "0 records";
    for (const pager of $$(".pager")) {
      $("output", pager).textContent = said + (matching.length < items.length ? ` (${count(items.length)} in all)` : "");
      $(".of", pager).textContent = `page ${count(page + 1)} of ${count(pages)}`;
      for (const button of $$("button", pager)) button.disabled = button.dataset.step < 0 ? page === 0 : page === pages - 1;
    }
  }

  function buildPager(pager, index) {
    const step = (text, name, by) => { const button = make("button", { type: "button", textContent: text, onclick: () => turn(by) }); button.dataset.step = by; button.setAttribute("aria-label", name); return button; };
    const said = make("output");
    if (index > 0) said.setAttribute("aria-live", "off");
    pager.append(said, step("«", "first page", -Infinity), step("‹ Back", "page before", -1), make("span", { className: "of" }), step("Next ›", "next page", 1), step("»", "last page", Infinity));
  }

  function turn(by) {
    showPage(by === Infinity ? Infinity : page + by);
    if ($("#page").getBoundingClientRect().top < 0) $(".pager").scrollIntoView();
  }

  // ---- one record

  function record(item) {
    const columns = item.fields.length <= 2;
    const table = make("table", {}, make("caption", { className: "sr", textContent: "Words marked by people, and words chosen by each method" }));
    const head = make("tr", {}, make("th", { className: "who", scope: "col", textContent: "who" }));
    if (columns) head.append(...item.fields.map((field) => write(make("th", { scope: "col" }), field.name)));
    else head.append(make("th", { scope: "col", textContent: "texts" }));
    head.append(make("th", { className: "what-came", scope: "col", textContent: "what comes of it" }));
    table.append(make("thead", {}, head));
    const rows = [...personRows(item), ...sourceRows(item)];
    for (const row of rows) row.fill(COLLAPSED);
    table.append(make("tbody", {}, ...rows.filter((row) => row.person).map((row) => row.element)), make("tbody", {}, ...rows.filter((row) => !row.person).map((row) => row.element)));
    const article = make("article", { className: "record", tabIndex: -1 }, header(item), table);
    article.setAttribute("aria-label", `record ${shorten(item.id, 80)}`);
    if (item.fields.some((field) => field.text.length > COLLAPSED)) article.append(wholeButton(item, rows));
    return article;
  }

  function header(item) {
    const gold = make("span", {}, "gold: ", item.gold == null ? "none" : named(label(item.gold)));
    const wrong = item.gold != null && item.predicted != null && item.gold !== item.predicted;
    const predicted = item.predicted == null ? null : make("span", { className: wrong ? "wrong" : "" }, wrong ? "✗ predicted: " : "predicted: ",
      named(label(item.predicted)), item.probability == null ? "" : ` (${number(item.probability)})`);
    const full = item.full == null ? null : make("span", { className: "full" }, "with every word masked: ", named(label(item.full)));
    return make("header", {}, make("h3", {}, named(item.id)), gold, predicted, full);
  }

  function wholeButton(item, rows) {
    const size = Math.max(...item.fields.map((field) => field.text.length));
    const button = make("button", { type: "button", className: "whole", textContent: `Show all (${count(size)} characters)` });
    let open = false;
    button.onclick = () => {
      open = !open;
      button.textContent = open ? "Show less" : `Show all (${count(size)} characters)`;
      button.setAttribute("aria-expanded", open);
      const waiting = [...rows]; // a row at a time, so that the page stays alive
      const next = () => { const row = waiting.shift(); if (row && row.element.isConnected) { row.fill(open ? Infinity : COLLAPSED); setTimeout(next); } };
      next();
    };
    button.setAttribute("aria-expanded", false);
    return button;
  }

  function personRows(item) {
    if (!item.people.length) return [row(item, "people", "", () => null, make("span", { className: "line", textContent: "nobody was asked" }), true)];
    return item.people.map(({ name, words }) => {
      const marked = new Set(words);
      const style = (word) => (marked.has(word) ? { mark: "person" } : null);
      return row(item, name, "person", style, words.length ? "" : make("span", { className: "line", textContent: "nothing marked" }), true);
    });
  }

  function sourceRows(item) {
    return saidBy(item).map((said) => {
      const chosen = new Set(said.words), unseen = new Set(item.unseen);
      const style = (word) => {
        const level = said.letters ? (data.letters.indexOf(said.letters[word]) - 30) / 30 : 0;
        const seen = !unseen.has(word) && !(said.letters && said.letters[word] === "-");
        if (!seen) return { mark: chosen.has(word) ? "chosen" : "", unseen: true };
        const heat = Math.abs(level) > 0.05 ? level : 0;
        return chosen.has(word) || heat ? { mark: chosen.has(word) ? "chosen" : "", heat, score: said.letters ? level * said.largest : null } : null;
      };
      const metric = data.metrics[$("#metric").value];
      const kind = [metric && `${metric[0]} ${number(said.metrics[$("#metric").value])}`, said.letters ? "" : "no scores"].filter(Boolean).join(" · ");
      return row(item, data.sources[said.source], kind, style, outcome(item, said), false);
    });
  }

  function outcome(item, said) {
    if (said.failure != null) return make("span", {}, "no rationale: ", named(said.failure));
    const came = make("div");
    if (flips(item, said)) came.append(make("span", { className: "flip" }, named(label(item.predicted)), " → ", named(label(said.without))), make("span", { className: "line", textContent: "without these words" }));
    else if (said.without != null) came.append("no flip");
    if (said.only != null && said.only !== item.predicted) came.append(make("span", { className: "line" }, "with only these: ", named(label(said.only))));
    return came;
  }

  // A row of a record: its texts are filled in by `fill(longest)`, which can be called again.
  function row(item, name, kind, style, came, person) {
    const who = make("th", { scope: "row", className: "who" }, named(name), kind && make("span", { className: "kind", textContent: kind }));
    const cells = [];
    const columns = item.fields.length <= 2;
    const shared = columns ? null : make("td");
    for (const field of item.fields) {
      const cell = make(columns ? "td" : "div", { className: "text" });
      cell.dataset.field = field.name;
      cells.push(cell);
      if (shared) shared.append(write(make("span", { className: "field" }), field.name), cell);
    }
    const element = make("tr", {}, who, ...(shared ? [shared] : cells), make("td", { className: "what-came" }, came));
    const fill = (longest) => {
      let before = 0;
      item.fields.forEach((field, index) => { cells[index].replaceChildren(words(field, before, style, longest)); before += field.gaps.length / 2; });
    };
    return { element, fill, person };
  }

  // The text of a field with its words styled; neighbours that are marked alike are one stretch.
  function words({ text, gaps }, before, style, longest) {
    const fragment = document.createDocumentFragment();
    let end = 0, drawn = 0, last = null, stretch = null, beyond = 0;
    for (let index = 0; index < gaps.length / 2; index++) {
      const start = end + gaps[2 * index];
      end = start + gaps[2 * index + 1];
      const look = style(before + index);
      if (start >= longest) { beyond += look?.mark ? 1 : 0; continue; }
      if (look) {
        if (look.mark && last?.mark === look.mark) write(stretch, text.slice(drawn, start));
        else { write(fragment, text.slice(drawn, start)); stretch = look.mark ? fragment.appendChild(make("mark", { className: look.mark })) : fragment; }
        write(inner(stretch, look), text.slice(start, Math.min(end, longest)));
        drawn = Math.min(end, longest);
      }
      last = look;
    }
    write(fragment, text.slice(drawn, longest));
    if (text.length > longest) fragment.append(make("span", { className: "rest", textContent: ` … ${beyond ? `${count(beyond)} marked words further on` : ""}` }));
    return fragment;
  }

  function inner(parent, { heat, unseen, score }) {
    if (!heat && !unseen) return parent;
    const span = make("span", { className: unseen ? "unseen" : heat > 0 ? "heat" : "heat against" });
    if (heat) { span.style.setProperty("--heat", Math.abs(heat).toFixed(2)); span.title = `score ${number(score, 3)}`; }
    parent.append(span);
    return span;
  }

  // ---- controls and keys

  function options(select, names, first = []) { select.append(...first, ...names.map((name, index) => make("option", { value: index, textContent: shorten(name, 60) }))); }
  options($("#gold"), data.labels);
  options($("#predicted"), data.labels);
  options($("#source"), data.sources);
  options($("#metric"), data.metrics.map(([title]) => title));
  if (!data.metrics.length) for (const id of ["#metric", "#order"]) $(id).closest("label").hidden = true;

  let waiting = 0;
  $("#filters").onsubmit = (event) => event.preventDefault();
  $("#filters").onreset = () => setTimeout(filter);
  $("#filters").onchange = (event) => { if (event.target.id !== "search") filter(); };
  $("#search").oninput = () => { clearTimeout(waiting); waiting = setTimeout(filter, 150); };

  function step(by) {
    const articles = $$("#page article"), current = articles.indexOf(document.activeElement?.closest("#page article"));
    const next = articles[current < 0 ? (by > 0 ? 0 : articles.length - 1) : current + by];
    if (next) { next.focus({ preventScroll: true }); next.scrollIntoView({ block: "start" }); }
  }
  const KEYS = { "/": () => { $("#search").scrollIntoView({ block: "center" }); $("#search").focus(); }, j: () => step(1), k: () => step(-1), ArrowRight: () => turn(1), ArrowLeft: () => turn(-1) };
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, select, textarea, .scroll");
    if (event.key === "Escape" && event.target.id === "search") event.target.blur();
    if (typing || event.ctrlKey || event.metaKey || event.altKey || !KEYS[event.key]) return;
    event.preventDefault();
    KEYS[event.key]();
  });

  $$(".pager").forEach(buildPager);
  $("#gallery").hidden = false;
  showPage(0);
})();
