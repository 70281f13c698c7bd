// A machine behind SSH: one connection that everything shares, and what is checked there before anything starts.

import { spawn } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { LaunchError } from './report.mjs';
import { quoted } from './shell.mjs';

/** How long a host may take to let us in. */
const connectSeconds = 15;
/** A shared connection that a killed launcher left behind ends itself after this. */
const persistSeconds = 5;

/** `host:GPU` or `host:cpu` of --hosts; throws LaunchError. */
export function parseHosts(text, workers) {
  const entries = (text ?? '').split(',').map((entry) => /^([^\s:,-][^\s:,]*):(\d+|cpu)$/.exec(entry));
  if (entries.length !== workers || entries.includes(null)) {
    throw new LaunchError(
      `--hosts is ${workers} hosts with a GPU number or cpu each, such as nodeA:0,nodeB:0, not '${text ?? ''}'`,
    );
  }
  return entries.map(([, host, device]) => ({ host, device }));
}

/** Connections to hosts, one each, that close together. */
export class Connections {
  #folder = mkdtempSync(join(tmpdir(), 'crosstower-ssh-'));
  #hosts = [];
  #configFlags;

  constructor(sshConfig) {
    this.#configFlags = sshConfig === undefined ? [] : ['-F', sshConfig];
  }

  /** The command that runs words on a host over its connection. */
  command(host, words) {
    return ['ssh', ...this.#flags(host), host, words.map(quoted).join(' ')];
  }

  /** Opens the connection; throws LaunchError with what ssh says. */
  async open(host) {
    this.#hosts.push(host);
    const said = `${this.#path(host)}.log`;
    // Into a file: the connection stays behind in the background, with whatever it was given to write to. It was opened for a command, since
    // one without (-N) never ends by itself.
    const log = openSync(said, 'w', 0o600);
    const code = await new Promise((resolve) => {
      const flags = ['-o', 'ControlMaster=yes', '-o', `ConnectTimeout=${connectSeconds}`];
      const child = spawn('ssh', [...flags, ...this.#flags(host), host, 'true'], {
        stdio: ['ignore', 'ignore', log],
        detached: true,
      });
      child.on('error', () => resolve(127));
      child.on('exit', resolve);
    });
    closeSync(log);
    if (code === 127) throw new LaunchError('there is no ssh on the PATH: install an OpenSSH client');
    if (code !== 0)
      throw new LaunchError(`cannot log in to ${host} without a password: ${lastLine(readFileSync(said, 'utf8'))}`, 3);
  }

  /** What words print on a host; throws LaunchError where they fail. */
  async ask(host, words) {
    const [program, ...args] = this.command(host, words);
    const { code, output } = await collect(program, args);
    if (code !== 0) throw new LaunchError(`${host} does not answer (ssh exited with ${code}): ${lastLine(output)}`, 3);
    return output;
  }

  async close() {
    await Promise.all(this.#hosts.map((host) => collect('ssh', [...this.#flags(host), '-O', 'exit', host])));
    rmSync(this.#folder, { recursive: true, force: true });
  }

  /** By the host's place in the order: ssh's own names are the same for two names of one machine. */
  #path(host) {
    return join(this.#folder, `${this.#hosts.indexOf(host)}`);
  }

  #flags(host) {
    const shared = ['-o', 'BatchMode=yes', '-o', `ControlPath=${this.#path(host)}`, '-o', `ControlPersist=${persistSeconds}`];
    // A host that is gone is noticed although nothing is said.
    return [
      ...this.#configFlags,
      '-T',
      ...shared,
      '-o',
      'ServerAliveInterval=5',
      '-o',
      'ServerAliveCountMax=3',
      '-o',
      'LogLevel=ERROR',
    ];
  }
}

const factsScript = `
cd "$1" 2>/dev/null || exit 0
echo "folder=yes"
echo "node=$(node --version 2>/dev/null)"
echo "crosstower=$(node_modules/.bin/worker --version 2>/dev/null)"
echo "gpus=$(nvidia-smi --list-gpus 2>/dev/null | grep -c ^GPU)"
`;

/** The words that make a host say what `problemsOf` looks at. */
export function factsCommand(folder) {
  return ['sh', '-c', factsScript, 'sh', folder];
}

/** What is wrong with a host, a sentence each: `said` is what the words of `factsCommand` printed there. */
export function problemsOf({ host, devices, folder, version, said }) {
  const facts = Object.fromEntries(said.split('\n').map((line) => line.split('=', 2)));
  if (facts.folder !== 'yes') return [`${host} has no folder ${folder}: put the checkout there, or name it with --folder`];
  const problems = [];
  const node = /^v(\d+)\./.exec(facts.node)?.[1];
  if (node === undefined) {
    problems.push(`${host} has no node on the PATH of a command over ssh (ssh ${host} node --version): Node 20 or 22 is needed`);
  } else if (node !== '20' && node !== '22') {
    problems.push(`${host} has Node ${facts.node.slice(1)}, and 20 or 22 is needed`);
  } else if (facts.crosstower === '') {
    problems.push(`${host}: the commands are not built in ${folder}: npm run setup`);
  } else if (facts.crosstower !== version) {
    problems.push(`${host} has crosstower ${facts.crosstower}, and this machine ${version}: bring them to one version`);
  }
  for (const gpu of devices.filter((device) => device !== 'cpu')) {
    if (Number(gpu) >= Number(facts.gpus)) problems.push(`${host} has no GPU ${gpu}: nvidia-smi lists ${facts.gpus || 0} there`);
  }
  return problems;
}

function lastLine(text) {
  return text.trimEnd().split('\n').at(-1);
}

function collect(program, args) {
  return new Promise((resolve) => {
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], detached: true });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => (output += text));
    child.on('error', (error) => resolve({ code: 127, output: error.message }));
    child.on('close', (code) => resolve({ code, output }));
  });
}
