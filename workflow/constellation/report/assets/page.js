"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const groups = [...document.querySelectorAll("details.tile")];

  // Of a large campaign, the sub-tiles of a tile become elements while its group is open.
  const stored = new Map();
  for (const group of groups) {
    const source = group.querySelector("script");
    if (source) {
      stored.set(group, source.textContent);
      source.remove();
    }
  }
  const fill = (group) => {
    if (stored.has(group) && group.children.length === 1) {
      group.insertAdjacentHTML("beforeend", stored.get(group));
      dress(group);
    }
  };
  const empty = (group) => {
    if (stored.has(group)) while (group.children.length > 1) group.lastElementChild.remove();
  };
  for (const group of groups) {
    group.addEventListener("toggle", () => (group.open ? fill(group) : empty(group)));
  }

  // Tables are sorted by the buttons in their heads.
  const value = (row, column) => {
    const text = row.cells[column].textContent.trim();
    const number = Number.parseFloat(text.replaceAll("\u2212", "-").replaceAll(",", ""));
    return Number.isNaN(number) || /^\d+_/.test(text) ? text : number;
  };
  const compare = (one, two) => {
    if (typeof one === "number" && typeof two === "number") return one - two;
    if (typeof one === typeof two) return one.localeCompare(two, "en", { numeric: true });
    return typeof one === "number" ? -1 : 1;
  };
  const sort = (table, head) => {
    const upwards = head.getAttribute("aria-sort") !== "ascending";
    for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", upwards ? "ascending" : "descending");
    const keyed = [...table.tBodies[0].rows].map((row) => [value(row, head.cellIndex), row]);
    keyed.sort(([one], [two]) => (upwards ? compare(one, two) : compare(two, one)));
    table.tBodies[0].append(...keyed.map(([, row]) => row));
  };
  const makeSortable = (table) => {
    for (const head of table.tHead.rows[0].cells) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      button.addEventListener("click", () => sort(table, head));
      head.append(button);
    }
  };

  // The filter hides tiles, and in open groups sub-tiles.
  const wanted = byId("wanted");
  const status = byId("status");
  const filterRows = (group) => {
    for (const item of group.querySelectorAll("[data-status]")) {
      item.hidden = status.value !== "" && item.dataset.status !== status.value;
    }
  };
  const filter = () => {
    const tile = wanted.value.trim().split("_")[0];
    let shown = 0;
    for (const group of groups) {
      const has = status.value === "" || group.dataset.statuses.split("|").includes(status.value);
      group.hidden = !(has && group.dataset.tile.includes(tile));
      shown += group.hidden ? 0 : 1;
      filterRows(group);
    }
    byId("found").value = `${shown} of ${groups.length} tiles`;
  };
  const dress = (root) => {
    root.querySelectorAll("table.sortable").forEach(makeSortable);
    if (root.matches("details.tile")) filterRows(root);
  };
  dress(document.documentElement);
  byId("filter").hidden = false;
  byId("filter").addEventListener("submit", (event) => event.preventDefault());
  wanted.addEventListener("input", filter);
  status.addEventListener("change", filter);
  filter();

  // A link to a sub-tile opens its group.
  const reveal = () => {
    const match = /^#s-(\d+)_\d+_\d+$/.exec(location.hash);
    const group = match && byId(`t-${match[1]}`);
    if (!group) return;
    group.hidden = false;
    group.open = true;
    fill(group);
    const row = byId(location.hash.slice(1));
    if (!row) return;
    row.hidden = false;
    document.querySelector("tr.found")?.classList.remove("found");
    row.classList.add("found");
    row.scrollIntoView({ block: "center" });
    row.focus({ preventScroll: true });
  };
  addEventListener("hashchange", reveal);
  reveal();

  // Thumbnails open in a dialog, with the arrow keys to go on.
  const viewer = byId("viewer");
  const view = byId("view");
  let links = [];
  let current = 0;
  const show = (place) => {
    current = (place + links.length) % links.length;
    const link = links[current];
    const small = link.querySelector("img");
    byId("viewer-title").textContent = `${link.textContent.trim()}, ${current + 1} of ${links.length}`;
    byId("missing").textContent = "";
    byId("original").href = link.href;
    view.onerror = () => {
      view.onerror = null;
      view.src = small.src;
      byId("missing").textContent = "is not beside this page: a thumbnail is shown.";
    };
    view.src = "view" in link.dataset ? small.src : link.href;
    view.alt = small.alt;
    view.hidden = false;
  };
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a.panel");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    links = [...document.querySelectorAll("a.panel")].filter((a) => a.checkVisibility());
    show(links.indexOf(link));
    viewer.showModal();
  });
  byId("previous").addEventListener("click", () => show(current - 1));
  byId("next").addEventListener("click", () => show(current + 1));
  byId("close").addEventListener("click", () => viewer.close());
  viewer.addEventListener("click", (event) => event.target === viewer && viewer.close());
  viewer.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") show(current - 1);
    else if (event.key === "ArrowRight") show(current + 1);
  });
  viewer.addEventListener("close", () => {
    view.removeAttribute("src");
    view.hidden = true;
    links[current]?.focus();
  });
})();
