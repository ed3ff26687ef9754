// The token, this once, with the commands that use it.

import { useState } from "preact/hooks";
import type { JoinToken } from "../api";
import { seconds } from "../format";
import { Action } from "./button";
import { Code } from "./code";
import { Dialog, Note } from "./dialog";
import { Age } from "./status";

type Target = { key: string; label: string; note: string; text: (token: string, name: string) => string };

const TARGETS: Target[] = [
  {
    key: "shell", label: "Shell", note: "On any machine with the agent. It prints its fingerprint, and waits for the approval.",
    text: (t) => `install -m 600 /dev/stdin token <<'END'\n${t}\nEND\ndrover-agent join --token-file token\ndrover-agent run`,
  },
  {
    key: "systemd", label: "systemd", note: "As root, with the package or the unit installed. The daemon joins by itself; the fingerprint is in its journal.",
    text: (t, name) => `install -d -m 750 -g drover-agent /etc/drover\ninstall -m 640 -g drover-agent /dev/stdin /etc/drover/join-token <<'END'\n${t}\nEND\nprintf '%s\\n' DROVER_AGENT_TOKEN_FILE=/etc/drover/join-token${name ? ` DROVER_AGENT_NAME=${name}` : ""} >> /etc/drover/agent.env\nsystemctl enable --now drover-agent\njournalctl -u drover-agent -f`,
  },
  {
    key: "kubernetes", label: "Kubernetes", note: "From a machine with a kubeconfig of the cluster: the agent looks after that cluster.",
    text: (t, name) => `install -m 600 /dev/stdin token <<'END'\n${t}\nEND\ndrover-agent join --token-file token --kubeconfig "$KUBECONFIG"${name ? ` --name ${name}` : ""}\ndrover-agent run --kubeconfig "$KUBECONFIG"`,
  },
];

export function TokenOnce({ token, close }: { token: JoinToken; close: () => void }) {
  const [target, setTarget] = useState("shell");
  const [kept, setKept] = useState(false);
  const text = token.status?.token ?? "";
  const name = token.spec.clusterName ?? "";
  const t = TARGETS.find((x) => x.key === target)!;
  return (
    <Dialog title="This is the token. It cannot be shown again." onClose={close} held kind="wide">
      <div class="body once">
        <Code text={text} label="the token" wrap />
        <p class="dim">Token <code>{token.metadata?.name}</code>, {token.spec.uses === 1 || !token.spec.uses ? "one use" : `${token.spec.uses} uses`}{name && <> for cluster <b>{name}</b></>}, expires <Age at={seconds(token.status?.expires)} />. It goes to nobody but this hub: the agent checks the hub before it sends anything.</p>
        <div class="stack">
          <div class="seg" role="group" aria-label="Where the agent runs">
            {TARGETS.map((x) => <button key={x.key} aria-pressed={x.key === target} onClick={() => setTarget(x.key)}>{x.label}</button>)}
          </div>
          <p class="small dim">{t.note}</p>
          <Code text={t.text(text, name)} label="the commands" />
        </div>
        {token.spec.autoApprove && <Note hue="warn">Whoever has this token first is approved without a person.</Note>}
        <footer>
          <label class="check push"><input type="checkbox" data-first checked={kept} onChange={(e) => setKept(e.currentTarget.checked)} />I have kept the token or run the commands</label>
          <Action kind="first" why={kept ? undefined : "Say first that you have it: closing loses it."} run={close}>Close</Action>
        </footer>
      </div>
    </Dialog>
  );
}
