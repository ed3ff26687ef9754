// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

const status = document.getElementById("status");

function say(text, error) {
  status.textContent = text;
  status.classList.toggle("error", Boolean(error));
}

async function post(path, body) {
  const response = await fetch(path, {
    method: "POST", credentials: "same-origin",
    headers: { "Content-Type": "application/json", "X-Drover-Request": "1" },
    body: JSON.stringify(body),
  });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.message);
  return answer;
}

async function main() {
  const from = new URLSearchParams(location.hash.slice(1));
  const returnTo = new URLSearchParams(location.search).get("returnTo") || "/";
  history.replaceState(null, "", location.pathname + location.search); // the code is in no history
  if (from.has("code")) {
    const answer = await post("/v1/login/code", { code: from.get("code") });
    location.replace(answer.returnTo);
    return;
  }
  const answer = await (await fetch("/v1/login")).json();
  const issuers = answer.issuers.filter((i) => i.dashboard);
  for (const issuer of issuers) {
    const button = document.createElement("button");
    button.textContent = "Log in with " + issuer.name;
    button.addEventListener("click", () => {
      button.disabled = true;
      post("/v1/login/issuer", { issuer: issuer.name, returnTo })
        .then((a) => location.assign(a.location))
        .catch((e) => { button.disabled = false; say(e.message, true); });
    });
    document.getElementById("issuers").append(button);
  }
  if (from.has("error")) say(from.get("error"), true);
  else say(issuers.length ? "Choose how to log in." : "This hub has no identity provider.");
}

main().catch((e) => say(e.message, true));
// A link pasted into a tab that shows this page already loads nothing anew.
addEventListener("hashchange", () => { if (location.hash.length > 1) location.reload(); });
