// The image as a stranger runs it: built twice to the same digest, with nothing in it but what is needed, and run by podman as another
// user, read-only, without capabilities; a gateway in it serves stock clients. `make image-test` runs this: building is too long for `make test`.

import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join as path } from "node:path";
import { after, before, describe, it } from "node:test";
import { cleanEnv } from "../lib/cluster.mjs";
import { Nats } from "../lib/nats.mjs";
import { freePort } from "../lib/ports.mjs";
import { Process } from "../lib/processes.mjs";
import { CONFIG, join, send, UPGRADE, Users } from "../lib/visits.mjs";

const BUILD = new URL("../../deploy/image/build", import.meta.url).pathname;
const IMAGE = "localhost/trunkline:image-test";
const onPath = (tool) => spawnSync(tool, ["--version"], { stdio: "ignore" }).status === 0;
const missing = ["buildah", "podman"].filter((tool) => !onPath(tool));
/** Any user but the image's own. */
const STRANGER = "12345:12345";

describe("the image", { skip: missing.length > 0 && `${missing.join(" and ")} not installed` }, () => {
  let dir;
  let env;
  before(() => {
    dir = mkdtempSync(path(tmpdir(), "trunkline-image-"));
    // An own storage: nobody's images are touched, and nothing stays.
    writeFileSync(path(dir, "storage.conf"), `[storage]\ndriver = "vfs"\ngraphroot = "${dir}/graph"\nrunroot = "${dir}/run"\n`);
    env = {
      ...cleanEnv(), CONTAINERS_STORAGE_CONF: path(dir, "storage.conf"), BUILDAH_ISOLATION: "chroot",
      SOURCE_DATE_EPOCH: "1700000000", IMAGE, ENGINE: "buildah",
    };
    build();
  });
  after(() => {
    run(["unshare", "rm", "-rf", dir]); // needed, and possible, where podman runs without root
    rmSync(dir, { recursive: true, force: true });
  });

  const build = () => execFileSync(BUILD, { env, stdio: ["ignore", "inherit", "inherit"] });

  /** podman works in containers too with these. */
  const podman = (args) => ["--cgroup-manager=cgroupfs", ...(onPath("runc") ? ["--runtime", "runc"] : []), ...args];
  const run = (args) => spawnSync("podman", podman(args), { env, encoding: "utf8", maxBuffer: 1 << 28 });
  const inspect = () => JSON.parse(run(["image", "inspect", IMAGE]).stdout)[0];

  const confined = (...args) => [
    "run", "--rm", "--network", "host", "--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096", "--user", STRANGER,
    "--read-only", "--read-only-tmpfs=false", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--http-proxy=false", ...args,
  ];

  it("is the same, bit by bit, when it is built again", () => {
    const first = inspect().Digest;
    build();
    assert.equal(inspect().Digest, first);
  });

  it("holds a binary and the certificate authorities, belongs to nobody, and says what it is", () => {
    const { Config, Labels, Created } = inspect();
    assert.match(Config.User, /^[1-9]\d*:[1-9]\d*$/);
    assert.equal(Created, "2023-11-14T22:13:20Z");
    assert.equal(Labels["org.opencontainers.image.created"], Created);
    assert.match(Labels["org.opencontainers.image.revision"], /^[0-9a-f]{40}(-dirty)?$/);
    assert.match(Labels["org.opencontainers.image.version"], /^\d+\.\d+\.\d+$/);

    const id = run(["create", IMAGE]).stdout.trim();
    const archive = path(dir, "files.tar");
    run(["export", "--output", archive, id]);
    run(["rm", id]);
    const entries = execFileSync("tar", ["--list", "--verbose", "--numeric-owner", "--file", archive], { encoding: "utf8" }).trim().split("\n");
    const files = entries.filter((entry) => !entry.startsWith("d")).map((entry) => entry.split(/\s+/)).map(([mode, owner, , , , name]) => `${mode} ${owner} ${name}`);
    assert.deepEqual(files.sort(), ["-rw-r--r-- 0/0 etc/ssl/certs/ca-certificates.crt", "-rwxr-xr-x 0/0 trunkline"]);
  });

  it("runs as another user, read-only, without capabilities", () => {
    const version = run(confined(IMAGE, "--version"));
    assert.match(version.stdout, /^trunkline \d+\.\d+\.\d+\n$/, version.stderr);
  });

  it("finds the configuration that is mounted, and its mistakes", () => {
    const file = path(dir, "trunkline.toml");
    const check = (text) => {
      writeFileSync(file, text, { mode: 0o644 });
      return run(confined("--volume", `${file}:/etc/trunkline/trunkline.toml:ro`, IMAGE, "check-config"));
    };
    const right = check(CONFIG);
    assert.equal(right.status, 0, right.stderr);
    assert.match(right.stdout, /^name = "visits"$/m);
    const wrong = check(CONFIG.replace("dialect", "dialekt"));
    assert.equal(wrong.status, 2);
    assert.match(wrong.stderr, /trunkline\.toml.*dialekt/s);
  });

  it("serves stock clients, finds NATS by its name, and drains on SIGTERM", async () => {
    const [nats, users] = [await Nats.start(), new Users()];
    const file = path(dir, "gateway.toml");
    writeFileSync(file, CONFIG, { mode: 0o644 });
    const admin = `127.0.0.1:${await freePort()}`;
    const args = confined(
      "--name", `trunkline-image-test-${process.pid}`, "--add-host", "nats.test:127.0.0.1", "--volume", `${file}:/etc/trunkline/trunkline.toml:ro`,
      IMAGE, "gateway", "--listen", "127.0.0.1:0", "--admin", admin, "--nats", nats.servers[0].replace("127.0.0.1", "nats.test"),
    );
    const gateway = new Process("gateway", "podman", podman(args), { env });
    try {
      const [, addr] = await gateway.line(/^listening visits (127\.0\.0\.1:\d+)$/, 60_000);
      await gateway.line(/^ready$/, 60_000);
      assert.equal((await fetch(`http://${admin}/readyz`)).status, 200);
      const [ann, bob] = await Promise.all(["ann", "bob"].map((name) => users.enter(`http://${addr}`, name, UPGRADE)));
      await Promise.all([ann, bob].map((socket) => join(socket, "topic:image")));
      const heard = new Promise((resolve) => { bob.on("message:new", resolve); });
      await send(ann, "from the image", { roomId: "topic:image" });
      assert.equal((await heard).message, "from the image");
      users.leave();
      assert.equal(await gateway.stop("SIGTERM", 20_000), 0, gateway.log());
    } finally {
      users.leave();
      await gateway.stop("SIGKILL");
      run(["rm", "--force", "--ignore", `trunkline-image-test-${process.pid}`]);
      await nats.stop();
    }
  });
});
