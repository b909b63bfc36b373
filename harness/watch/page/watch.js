// Puts newer parts of this page in the place of older ones; what a reader has unfolded, scrolled or chosen stays.
const EVERY_MS = 1500, LONGEST_MS = 15000;

const become = (old, fresh) => {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName || (old.id ?? "") !== (fresh.id ?? "")) {
    old.replaceWith(document.importNode(fresh, true));
    return;
  }
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && !(name === "open" && old.nodeName === "DETAILS")) old.removeAttribute(name);
  }
  const atEnd = old.nodeName === "PRE" && old.scrollHeight - old.scrollTop - old.clientHeight < 4;
  children(old, fresh);
  if (atEnd) old.scrollTop = old.scrollHeight;
};

const children = (old, fresh) => {
  const named = new Map([...old.children].filter((one) => one.id).map((one) => [one.id, one]));
  let at = old.firstChild;
  for (const wanted of fresh.childNodes) {
    const same = wanted.id ? named.get(wanted.id) : at && !at.id && at.nodeName === wanted.nodeName ? at : null;
    if (!same) {
      old.insertBefore(document.importNode(wanted, true), at);
      continue;
    }
    if (same === at) at = at.nextSibling;
    else old.insertBefore(same, at);
    become(same, wanted);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
};

let tag = "", wait = EVERY_MS, timer = 0;
const look = async () => {
  clearTimeout(timer);
  try {
    const answer = await fetch("/", { headers: tag ? { "If-None-Match": tag } : {}, cache: "no-store" });
    if (answer.status === 200) {
      tag = answer.headers.get("ETag") ?? "";
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      document.title = page.title;
      become(document.querySelector("#watched"), page.querySelector("#watched"));
    }
    wait = EVERY_MS;
  } catch {
    const alive = document.querySelector("#alive");
    alive.className = "lost";
    alive.textContent = "Nothing newer comes: harness watch has ended, or cannot be reached.";
    wait = Math.min(2 * wait, LONGEST_MS);
  }
  if (!document.hidden) timer = setTimeout(look, wait);
};
document.addEventListener("visibilitychange", () => document.hidden || look());
timer = setTimeout(look, EVERY_MS);
