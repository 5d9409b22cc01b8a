"use strict";
// The server makes the pages. This asks for the page again and again and puts its parts in place of the old ones, sends
// the token that the person gave, and does what a button says once the person has said yes.
const REFRESH_MS_MIN = 5000, REFRESH_MS_MAX = 30000, TIMEOUT_MS = 10000, ACT_TIMEOUT_MS = 120000, SHOWN_MAX = 20000;
const byId = (id) => document.getElementById(id);
let lastGood = null;

// A page's own token field writes it; the browser forgets it with the tab.
function withToken(headers) {
  const token = sessionStorage.getItem("token");
  return token ? { ...headers, authorization: "Bearer " + token } : headers;
}

function ask(path, headers, rest) {
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  return fetch(path, { headers: withToken(headers), cache: "no-store", redirect: "error", signal, ...rest });
}

// A test waits for its endpoint, and a replay takes its time.
function post(path, values) {
  const headers = { accept: "application/json" };
  if (values !== undefined) headers["content-type"] = "application/json";
  const signal = AbortSignal.timeout(ACT_TIMEOUT_MS);
  return ask(path, headers, { method: "POST", body: values && JSON.stringify(values), signal });
}

function say(id, text) {
  byId(id).textContent = text;
  byId(id).hidden = !text;
}

async function detail(answer) {
  const body = await answer.json().catch(() => ({}));
  return body.detail || "it answered " + answer.status;
}

// What the browser parses here is the server's page. It runs no script, and the policy lets none of it load anything.
function put(text) {
  const page = new DOMParser().parseFromString(text, "text/html");
  if (page.querySelector("[data-shell]") !== null) return false;
  if (parts(page) === parts(document)) page.querySelectorAll("[data-live]").forEach(replace);
  else byId("main").replaceWith(page.getElementById("main"));
  document.title = page.title;
  return true;
}

// Those of the shell, of a page and of what is not there (any more) differ.
function parts(page) {
  return Array.from(page.querySelectorAll("[data-live]"), (one) => one.id).join(" ");
}

// A part that did not change stays; so do open details, and the focus.
function replace(fresh) {
  const old = byId(fresh.id);
  for (const details of old.querySelectorAll("details[id][open]")) {
    const same = fresh.querySelector("#" + details.id);
    if (same !== null) same.open = true;
  }
  if (old.outerHTML === fresh.outerHTML) return;
  const focused = old.contains(document.activeElement) ? key(document.activeElement) : null;
  old.replaceWith(fresh);
  if (focused === null) return;
  const again = Array.from(fresh.querySelectorAll("a, button, summary")).find((one) => key(one) === focused);
  if (again !== undefined) again.focus({ preventScroll: true });
}

function key(element) {
  return [element.tagName, element.getAttribute("href"), element.dataset.post, element.dataset.range,
    element.parentElement.id].join(" ");
}

async function look() {
  try {
    const answer = await ask(window.location.pathname + window.location.search, { accept: "text/html, application/problem+json" });
    const isPage = (answer.headers.get("content-type") || "").startsWith("text/html");
    if (isPage && put(await answer.text())) {
      lastGood = new Date();
      say("trouble", "");
      byId("token-form").hidden = true;
      byId("main").classList.remove("stale");
      return;
    }
    byId("token-form").hidden = false;
    if (!isPage) refused("The daemon refuses: " + await detail(answer) + ".");
  } catch (error) {
    refused(error.name === "TimeoutError" ? "No answer within " + TIMEOUT_MS / 1000 + " s."
      : "No answer: it has stopped, or cannot be reached.");
  }
}

function refused(words) {
  const since = lastGood === null ? "" : " What stands below is of " + lastGood.toISOString().slice(11, 19) + "Z.";
  say("trouble", words + since);
  byId("main").classList.add("stale");
}

// A daemon that answers slowly is asked less often: a tenth of the time at most goes into this page, and none of it
// while nobody sees the tab.
async function poll() {
  const began = performance.now();
  if (!document.hidden) await look();
  setTimeout(poll, Math.min(REFRESH_MS_MAX, Math.max(REFRESH_MS_MIN, 10 * (performance.now() - began))));
}

function confirmed(says) {
  const dialog = byId("confirm");
  byId("confirm-says").textContent = says;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}

// What a range would change is asked first, as a dry run, and told to the person.
async function act(button) {
  const name = button.textContent, path = button.dataset.post, values = range(button.dataset.range);
  let says = button.dataset.says;
  try {
    if (values !== undefined) {
      const counted = await post(path, { ...values, dry_run: true });
      if (!counted.ok) return say("said", name + ": refused. " + await detail(counted));
      says = says.replace("{matched}", (await counted.json()).matched.toLocaleString("en"));
    }
    if (!await confirmed(says)) return;
    say("said", name + ": asked.");
    const answer = await post(path, values);
    say("said", answer.ok ? name + ": done. " + outcome(await answer.json()) : name + ": refused. " + await detail(answer));
  } catch (error) {
    say("said", name + ": no answer, so it may have been done or not.");
  }
  await look();
}

function range(body) {
  if (body === undefined) return undefined;
  const since = byId("since").value;
  return since ? { ...JSON.parse(body), since: new Date(since + "Z").toISOString() } : JSON.parse(body);
}

// Of those that the page which follows does not show.
function outcome(body) {
  if (body.outcome !== undefined) {
    return body.status_code === null ? body.outcome + ": " + body.error : "It answered " + body.status_code + ".";
  }
  if (body.reopened !== undefined) {
    const left = body.stopped_by === null ? "" : " Left: " + body.left + " (" + body.stopped_by + ").";
    return "Sent again: " + body.reopened + "." + left;
  }
  if (body.cancelled !== undefined) return "Given up: " + body.cancelled + ". In flight: " + body.in_flight + ".";
  const made = (body.endpoints || []).find((one) => one.secret !== undefined);
  return made === undefined ? "" : "The new secret, shown this once: " + made.secret;
}

async function show(button) {
  try {
    const answer = await ask(button.dataset.show, { accept: "application/json" });
    const text = answer.ok ? await answer.text() : await detail(answer);
    byId("payload").textContent = text.length > SHOWN_MAX ? text.slice(0, SHOWN_MAX) + "\n… and more" : text;
  } catch (error) {
    byId("payload").textContent = "no answer";
  }
  byId("payload").hidden = false;
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button === null) return;
  if (button.dataset.post !== undefined && !button.hasAttribute("aria-disabled")) act(button);
  if (button.dataset.show !== undefined) show(button);
  if (button.id === "confirm-yes" || button.id === "confirm-no") byId("confirm").close(button.id.slice("confirm-".length));
});

byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", byId("token").value.trim());
  byId("token").value = "";
  look();
});

poll();
