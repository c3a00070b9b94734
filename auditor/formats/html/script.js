"use strict";
(() => {
  const FIRST = 100, PAGE = 500;
  const CHARACTERS = { amp: "&", lt: "<", gt: ">", "#34": '"', "#39": "'" };

  const element = (html) => {
    const template = document.createElement("template");
    template.innerHTML = html;
    return template.content.firstElementChild;
  };

  // A row or an image: an element from the start, or HTML in a noscript that becomes one when it is shown.
  class Item {
    constructor(node, html) { this.node = node; this.html = html; }
    get element() { return this.node ??= element(this.html); }
    get text() {
      return this.words ??= (this.node ? this.node.textContent : this.html.replace(/<wbr>/g, "").replace(/<[^>]*>/g, " ")
        .replace(/&(amp|lt|gt|#34|#39);/g, (_, name) => CHARACTERS[name])).toLowerCase();
    }
    attribute(name) {
      return this.node ? this.node.getAttribute(name) : new RegExp(` ${name}="([^"]*)"`).exec(this.html)?.[1] ?? null;
    }
    get name() { return this.title ??= this.element.querySelector(".name").textContent; }
  }

  class List {
    constructor(place) {
      this.key = place.dataset.list;
      this.body = place.tBodies?.[0] ?? place;
      const rest = document.querySelector(`noscript[data-rest="${this.key}"]`)?.textContent.split(/\n(?=<(?:tr|li id="[^"]*") data-key)/);
      this.items = [...[...this.body.children].map((node) => new Item(node)), ...(rest ?? []).slice(1).map((html) => new Item(null, html))];
      this.sorted = this.items;
      this.shown = FIRST;
      this.more = document.querySelector(`[data-more="${this.key}"]`);
      this.more?.addEventListener("click", () => { this.shown += PAGE; this.draw(); });
      this.tools = document.querySelector(`[data-tools="${this.key}"]`);
      this.filter = this.tools?.querySelector("[data-filter]");
      this.picks = [...(this.tools?.querySelectorAll("[data-pick]") ?? [])];
      this.output = this.tools?.querySelector("output");
      this.filter?.addEventListener("input", () => { this.shown = FIRST; this.draw(); });
      this.picks.forEach((pick) => pick.addEventListener("change", () => this.draw()));
      this.tools?.querySelector("[data-order]")?.addEventListener("change", (event) => this.order(event.target.value));
      place.querySelectorAll("th[data-sort]").forEach((th) => this.sortable(th));
      if (this.tools) this.tools.hidden = false;
      this.draw();
    }

    fitting() {
      const words = this.filter?.value.toLowerCase().split(/\s+/).filter(Boolean) ?? [];
      const off = new Set(this.picks.filter((pick) => !pick.checked).map((pick) => pick.dataset.pick));
      if (!words.length && !off.size) return this.sorted;
      return this.sorted.filter((item) => !off.has(item.attribute("data-key")) && words.every((word) => item.text.includes(word)));
    }

    draw(all = false) {
      const fits = all ? this.sorted : this.fitting();
      const shown = all ? fits : fits.slice(0, this.shown);
      this.body.replaceChildren(...shown.map((item) => item.element));
      if (this.output) this.output.textContent = `${shown.length} of ${this.items.length} shown`;
      if (this.more) this.more.parentElement.hidden = shown.length === fits.length;
    }

    order(by) {
      this.sorted = [...this.items];
      if (by === "name") this.sorted.sort((a, b) => (a.name < b.name ? -1 : 1));
      if (by === "bytes") this.sorted.sort((a, b) => b.attribute("data-bytes") - a.attribute("data-bytes"));
      this.draw();
    }

    // A button in each heading that can sort; the order of the report comes back with a reload.
    sortable(th) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...th.childNodes);
      th.append(button);
      button.addEventListener("click", () => {
        const up = th.getAttribute("aria-sort") !== "ascending";
        th.parentElement.querySelectorAll("th[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
        th.setAttribute("aria-sort", up ? "ascending" : "descending");
        const numeric = th.dataset.sort === "n";
        const value = (item) => { const cell = item.element.cells[th.cellIndex]; const text = cell.dataset.v ?? cell.textContent.trim(); return numeric ? Number(text) : text; };
        const keyed = this.items.map((item) => [value(item), item]);
        keyed.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0) * (up ? 1 : -1));
        this.sorted = keyed.map(([, item]) => item);
        this.draw();
      });
    }

    // Show the image with this anchor, by a filter for its name if it is not on the page.
    reveal(anchor) {
      const item = this.items.find((each) => each.attribute("id") === anchor);
      if (!item) return;
      if (!item.element.isConnected) {
        this.filter.value = item.name;
        this.picks.forEach((pick) => { pick.checked = true; });
        this.draw();
      }
      item.element.querySelector("details").open = true;
      item.element.scrollIntoView();
      item.element.querySelector("summary").focus({ preventScroll: true });
    }
  }

  const lists = [...document.querySelectorAll("[data-list]")].map((place) => new List(place));
  const images = lists.find((list) => list.key === "images");
  const reveal = () => { if (location.hash.startsWith("#image-")) images?.reveal(location.hash.slice(1)); };
  addEventListener("hashchange", reveal);
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.('a[href^="#image-"]');
    if (link && link.hash === location.hash) reveal();
  });
  reveal();
  addEventListener("beforeprint", () => lists.forEach((list) => list.draw(true)));
  addEventListener("afterprint", () => lists.forEach((list) => list.draw()));

  // A button that copies a command.
  for (const command of document.querySelectorAll("pre")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy";
    button.setAttribute("aria-live", "polite");
    button.addEventListener("click", async () => {
      const range = document.createRange();
      range.selectNodeContents(command.querySelector("code"));
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      try {
        await navigator.clipboard.writeText(range.toString());
      } catch {
        document.execCommand("copy"); // pages that are not served over HTTPS
      }
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
    const box = document.createElement("div");
    box.className = "command";
    command.replaceWith(box);
    box.append(command, button);
  }
})();
