// What the pages do beyond being read: follow the server's events, and read a chart at the pointer.
// Everything here is comfort: without it the same pages work, and <noscript> reloads them.
"use strict";

const page = document.body.dataset.page;
const everyMs = Number(document.body.dataset.refreshS || 5) * 1000;
const lost = document.getElementById("lost");
const PRESENCE_MS = 60000;
let lastGood = Date.now();
let somebodyIsThere = true;

for (const kind of ["pointerdown", "pointermove", "keydown", "scroll"]) {
  addEventListener(kind, () => { somebodyIsThere = true; }, { passive: true });
}

// -- putting in what is new ------------------------------------------------------------------------------------------

function sayLost(isLost) {
  if (!lost) return;
  lost.hidden = !isLost;
  if (isLost) lost.querySelector("[data-lost-age]").textContent = `${Math.round((Date.now() - lastGood) / 1000)} s ago`;
}

function keepState(was, is) {
  for (const details of was.querySelectorAll("details[open][id]")) {
    const same = is.querySelector(`#${CSS.escape(details.id)}`);
    if (same) same.open = true;
  }
}

function markChanges(was, is) {
  const before = was.querySelectorAll("data");
  const after = is.querySelectorAll("data");
  if (before.length !== after.length) return;
  after.forEach((value, i) => { if (value.textContent !== before[i].textContent) value.classList.add("changed"); });
}

function withoutMarks(part) {
  const copy = part.cloneNode(true);
  for (const mark of copy.querySelectorAll(".changed")) {
    mark.classList.remove("changed");
    if (!mark.className) mark.removeAttribute("class");
  }
  return copy;
}

function replacePart(was, is) {
  const before = withoutMarks(was);
  if (before.isEqualNode(is)) return;
  const scrolled = [...was.querySelectorAll(".scroll")].map((part) => [part.scrollLeft, part.scrollTop]);
  const focused = was.contains(document.activeElement) ? document.activeElement : null;
  // somebody who reads the numbers of a chart, or chooses in a form, is not moved away
  if (focused && focused.closest("details[open], form")) return;
  const reachable = "a, button, select, summary, [tabindex]";
  const path = focused ? [...was.querySelectorAll(reachable)].indexOf(focused) : -1;
  keepState(was, is);
  markChanges(before, is);
  was.replaceWith(document.adoptNode(is));
  [...is.querySelectorAll(".scroll")].forEach((part, i) => { if (scrolled[i]) [part.scrollLeft, part.scrollTop] = scrolled[i]; });
  if (path >= 0) is.querySelectorAll(reachable)[path]?.focus({ preventScroll: true });
}

function replaceParts(next) {
  for (const is of [...next.querySelectorAll("[data-live]")]) {
    const was = document.getElementById(is.id);
    if (was) replacePart(was, is);
  }
  prepareCharts();
}

// -- the server's events ---------------------------------------------------------------------------------------------

let stream = null;
let last = "";
let asking = 0;

function follow() {
  if (stream || document.hidden) return;
  const address = new URL("/live", location.origin);
  address.searchParams.set("of", location.pathname + location.search);
  // a stream that opens by itself is nobody's visit: it does not keep the session alive
  address.searchParams.set("refresh", "auto");
  if (last) address.searchParams.set("last", last);
  stream = new EventSource(address);
  stream.addEventListener("parts", (event) => {
    last = event.lastEventId;
    lastGood = Date.now();
    sayLost(false);
    const { kind, title, parts } = JSON.parse(event.data);
    if (kind !== page) { leave(); return location.reload(); } // another kind of page: tables came, data came
    document.title = title;
    replaceParts(new DOMParser().parseFromString(parts.join(""), "text/html"));
  });
  stream.addEventListener("same", () => { lastGood = Date.now(); sayLost(false); });
  stream.addEventListener("over", () => { leave(); location.reload(); }); // signed out: the server shows the login
  stream.onerror = () => {
    if (stream.readyState === EventSource.CLOSED) { leave(); askLater(); } else sayLost(Date.now() - lastGood > 2 * everyMs);
  };
}

function leave() {
  stream?.close();
  stream = null;
}

// -- without a stream (too many are open, or something on the way does not let it through): ask for the page ------------

async function ask(state) {
  const answer = await fetch(location.href, {
    headers: { "X-Dashboard-Refresh": state },
    cache: "no-store",
    redirect: "error",
    signal: AbortSignal.timeout(10000),
  });
  if (answer.status === 401) return location.reload(); // the session ended: the server shows the login
  const next = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (!next.body.dataset.page) throw new Error("not a page of ours");
  lastGood = Date.now();
  sayLost(false);
  if (next.body.dataset.page !== page) return location.reload();
  document.title = next.title;
  replaceParts(next);
}

function askLater() {
  clearTimeout(asking);
  asking = setTimeout(async () => {
    if (stream || document.hidden) return;
    const state = somebodyIsThere ? "active" : "idle";
    somebodyIsThere = false;
    try { await ask(state); follow(); } catch { sayLost(true); askLater(); }
  }, everyMs);
}

// Somebody who reads without opening anything is there all the same: the session is theirs as long as they move.
async function sayPresence() {
  if (somebodyIsThere && !document.hidden) {
    somebodyIsThere = false;
    try { await fetch("/present", { headers: { "X-Dashboard-Refresh": "active" }, cache: "no-store" }); } catch { /* the stream says it */ }
  }
  setTimeout(sayPresence, PRESENCE_MS);
}

if (page) {
  follow();
  setTimeout(sayPresence, PRESENCE_MS);
  document.addEventListener("visibilitychange", () => { if (document.hidden) leave(); else follow(); });
  addEventListener("pagehide", leave);
  addEventListener("pageshow", (event) => { if (event.persisted) follow(); });
  setInterval(() => { if (!document.hidden && Date.now() - lastGood > 4 * everyMs + 5000) sayLost(true); }, 1000);
}

// -- charts ----------------------------------------------------------------------------------------------------------

function prepareCharts() {
  for (const chart of document.querySelectorAll("[data-chart]:not([data-ready])")) {
    chart.dataset.ready = "";
    const table = chart.parentElement.querySelector(":scope > details table");
    const rows = table ? [...table.querySelectorAll("tr[data-x]")] : [];
    if (!rows.length) continue;
    const xs = rows.map((row) => Number(row.dataset.x));
    const heads = [...table.querySelectorAll("thead th")].map((head) => head.textContent.trim().toLowerCase());
    const readout = chart.querySelector("[data-readout]");
    const cursors = chart.querySelectorAll(".cursor");
    const hide = () => {
      for (const cursor of cursors) cursor.hidden = true;
      readout.textContent = "";
    };
    chart.addEventListener("pointerleave", hide);
    chart.addEventListener("pointermove", (event) => {
      const box = chart.querySelector(".drawing").getBoundingClientRect();
      const x = ((event.clientX - box.left) / box.width) * 1000;
      if (x < -8 || x > 1008) return hide();
      let nearest = 0;
      for (let i = 1; i < xs.length; i += 1) if (Math.abs(xs[i] - x) < Math.abs(xs[nearest] - x)) nearest = i;
      for (const cursor of cursors) {
        cursor.style.left = `${xs[nearest] / 10}%`;
        cursor.hidden = false;
      }
      readout.textContent = [...rows[nearest].cells]
        .map((cell, i) => (i ? `${heads[i]} ${cell.textContent.trim()}` : cell.textContent.trim())).join(" · ");
    });
  }
}
prepareCharts();
