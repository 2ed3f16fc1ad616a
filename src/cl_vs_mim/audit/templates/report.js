"use strict";
const find = (selector, within = document) => [...within.querySelectorAll(selector)];
const table = document.querySelector(".claims");
const claims = find("tbody.claim");
const pictures = JSON.parse(document.getElementById("pictures").textContent);

function open(claim, wanted) {
  const toggle = claim.querySelector(".toggle");
  toggle.setAttribute("aria-expanded", String(wanted));
  claim.querySelector(".detail").hidden = !wanted;
  if (wanted) find("img[data-figure]:not([src])", claim).forEach((image) => { image.src = pictures[image.dataset.figure]; });
}
claims.forEach((claim) => {
  const toggle = claim.querySelector(".toggle");
  toggle.addEventListener("click", () => open(claim, toggle.getAttribute("aria-expanded") !== "true"));
});

const search = document.getElementById("search");
const verdict = document.getElementById("verdict");
const strength = document.getElementById("strength");
function filter() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const claim of claims) {
    const text = claim.querySelector(".row").textContent.toLowerCase();
    const fits = words.every((word) => (/^c\d+[a-z]?$/.test(word) ? claim.id.toLowerCase() === word : text.includes(word)))
      && (!verdict.value || claim.dataset.verdictName === verdict.value)
      && (!strength.value || claim.dataset.strengthName === strength.value);
    claim.hidden = !fits;
    shown += fits;
  }
  document.getElementById("shown").textContent = `${shown} of ${claims.length} shown`;
  document.getElementById("nothing").hidden = shown > 0;
}
search.addEventListener("input", filter);
verdict.addEventListener("change", filter);
strength.addEventListener("change", filter);
const form = document.getElementById("filters");
form.addEventListener("submit", (event) => event.preventDefault());
document.getElementById("clear").addEventListener("click", () => {
  [search, verdict, strength].forEach((field) => { field.value = ""; });
  filter();
});

const expand = document.getElementById("expand");
expand.addEventListener("click", () => {
  const wanted = expand.getAttribute("aria-pressed") !== "true";
  expand.setAttribute("aria-pressed", String(wanted));
  expand.textContent = wanted ? "Close all" : "Open all";
  claims.forEach((claim) => open(claim, wanted));
});

// Numbers by size, words by the alphabet, what is missing last.
function compare(one, other, sign) {
  if (one === "" || other === "") return (one === "") - (other === "");
  const numbers = [Number(one), Number(other)];
  return sign * (numbers.some(Number.isNaN) ? one.localeCompare(other, "en", { numeric: true }) : numbers[0] - numbers[1]);
}
find("thead button[data-key]", table).forEach((button) => button.addEventListener("click", () => {
  const head = button.closest("th");
  const descending = head.getAttribute("aria-sort") === "ascending";
  find("[aria-sort]", table).forEach((other) => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const key = button.dataset.key;
  claims.sort((one, other) => compare(one.dataset[key], other.dataset[key], descending ? -1 : 1) || one.dataset.order - other.dataset.order);
  table.append(...claims);
}));

// An address such as #C7 opens that claim, one of a table opens its origin; a printer gets everything.
function follow() {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  if (target.matches("tbody.claim")) open(target, true);
  if (target.matches("details")) target.open = true;
  target.scrollIntoView();
}
addEventListener("hashchange", follow);
addEventListener("beforeprint", () => claims.forEach((claim) => open(claim, true)));
follow();
