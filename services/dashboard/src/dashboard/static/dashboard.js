// What the pages do beyond being read: refresh themselves and read the chart at the pointer.
// Everything here is comfort: without it the same pages work, and <noscript> reloads them.
"use strict";

const page = document.body.dataset.page;
const everyMs = Number(document.body.dataset.refreshS || 5) * 1000;
const lost = document.getElementById("lost");
let lastGood = Date.now();
let somebodyIsThere = true;

for (const kind of ["pointerdown", "pointermove", "keydown", "scroll"]) {
  addEventListener(kind, () => { somebodyIsThere = true; }, { passive: true });
}

// -- refresh -----------------------------------------------------------------------------------------------------------

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

function replaceParts(next) {
  for (const was of document.querySelectorAll("[data-live]")) {
    const is = next.getElementById(was.id);
    if (!is || was.isEqualNode(is)) continue;
    const before = was.cloneNode(true);
    for (const mark of before.querySelectorAll(".changed")) {
      mark.classList.remove("changed");
      if (!mark.className) mark.removeAttribute("class");
    }
    const table = is.querySelector("details table");
    const scrolled = [...was.querySelectorAll(".scroll")].map((part) => [part.scrollLeft, part.scrollTop]);
    const focused = was.contains(document.activeElement) ? document.activeElement : null;
    // somebody who reads the numbers behind the curve, or stands on a link with the keyboard, is not moved away
    if (focused && (table || focused.closest("details"))) continue;
    const path = focused ? [...was.querySelectorAll("a, button, select, summary, [tabindex]")].indexOf(focused) : -1;
    keepState(was, is);
    markChanges(before, is);
    was.replaceWith(document.adoptNode(is));
    [...is.querySelectorAll(".scroll")].forEach((part, i) => { if (scrolled[i]) [part.scrollLeft, part.scrollTop] = scrolled[i]; });
    if (path >= 0) is.querySelectorAll("a, button, select, summary, [tabindex]")[path]?.focus({ preventScroll: true });
  }
}

async function refresh() {
  if (document.hidden) return;
  const state = somebodyIsThere ? "active" : "idle";
  somebodyIsThere = false;
  try {
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
    if (next.body.dataset.page !== page) return location.reload(); // another kind of page: tables came, data came
    document.title = next.title;
    replaceParts(next);
    prepareCharts();
  } catch {
    sayLost(true);
  }
}

async function keepRefreshing() {
  await refresh();
  setTimeout(keepRefreshing, everyMs);
}
if (page) {
  setTimeout(keepRefreshing, everyMs);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
}

// -- chart -------------------------------------------------------------------------------------------------------------

function prepareCharts() {
  for (const chart of document.querySelectorAll("[data-chart]:not([data-ready])")) {
    chart.dataset.ready = "";
    const rows = [...chart.parentElement.querySelectorAll("tr[data-x]")];
    if (!rows.length) continue;
    const xs = rows.map((row) => Number(row.dataset.x));
    const readout = chart.querySelector("[data-readout]");
    const cursors = chart.querySelectorAll(".cursor");
    const show = (event) => {
      const box = chart.querySelector("svg.equity").getBoundingClientRect();
      const x = ((event.clientX - box.left) / box.width) * 1000;
      if (x < -8 || x > 1008) return hide();
      let nearest = 0;
      for (let i = 1; i < xs.length; i += 1) if (Math.abs(xs[i] - x) < Math.abs(xs[nearest] - x)) nearest = i;
      for (const cursor of cursors) {
        cursor.setAttribute("x1", xs[nearest]);
        cursor.setAttribute("x2", xs[nearest]);
        cursor.setAttribute("visibility", "visible");
      }
      const [time, equity, drawdown] = [...rows[nearest].cells].map((cell) => cell.textContent.trim());
      readout.textContent = `${time}  ${equity}  (${drawdown} from the peak)`;
    };
    const hide = () => {
      for (const cursor of cursors) cursor.setAttribute("visibility", "hidden");
      readout.textContent = "";
    };
    chart.addEventListener("pointermove", show);
    chart.addEventListener("pointerleave", hide);
  }
}
prepareCharts();
