// What a flood of strangers costs a run: `node dist/bench/flood.js --help`. One run of two workers under CURVE; quiet windows and windows
// under a flood alternate, because clocks and neighbours change. The ratio is that of the medians of the steps in each.
// What the flood's own process takes from the machine is measured and told: on a machine with no core to spare it is part of the ratio.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const help = `node dist/bench/flood.js [options]

Trains with two workers under keys, and measures the time of a step with and without a flood of bad connections at the coordinator's port.

Options
  --network NAME   alexnet, compact or tiny (default: compact)
  --batch N        pictures a step (default: 128)
  --rate N         bad connections a second (default: 500)
  --idle N         connections that are kept open and say nothing (default: 1000)
  --windows N      pairs of a quiet window and one under the flood (default: 5)
  --seconds N      seconds of a window (default: 6)
  --warmup N       steps before the first window (default: 50)
  --help           this text`;

interface FloodOptions {
  readonly network: string;
  readonly batch: string;
  readonly rate: number;
  readonly idle: number;
  readonly windows: number;
  readonly seconds: number;
  readonly warmup: number;
}

function parse(): FloodOptions | undefined {
  const { values } = parseArgs({
    options: {
      network: { type: 'string', default: 'compact' },
      batch: { type: 'string', default: '128' },
      rate: { type: 'string', default: '500' },
      idle: { type: 'string', default: '1000' },
      windows: { type: 'string', default: '5' },
      seconds: { type: 'string', default: '6' },
      warmup: { type: 'string', default: '50' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return undefined;
  const { network, batch } = values;
  const [rate, idle, windows, seconds, warmup] = (['rate', 'idle', 'windows', 'seconds', 'warmup'] as const).map((name) => {
    const value = Number(values[name]);
    if (!(value > 0)) throw new Error(`--${name} takes a number above 0, not '${values[name]}'`);
    return value;
  }) as [number, number, number, number, number];
  return { network, batch, rate, idle, windows, seconds, warmup };
}

const command = (name: 'coordinator' | 'worker'): string => fileURLToPath(new URL(`../src/${name}/cli.js`, import.meta.url));

/** What is said before hanging up: garbage, HTTP, a greeting of ZMTP without and with CURVE, the latter with a HELLO that nobody signed. */
const openings = [
  Buffer.alloc(200, 0xa5),
  Buffer.from('GET / HTTP/1.1\r\n\r\n'),
  greeting('NULL'),
  Buffer.concat([greeting('CURVE'), Buffer.of(4, 200), Buffer.from('\u0005HELLO\u0001\u0000'), Buffer.alloc(192, 0x5a)]),
];

function greeting(mechanism: string): Buffer {
  const name = Buffer.alloc(20);
  name.write(mechanism);
  return Buffer.concat([Buffer.from('ff00000000000000007f0300', 'hex'), name, Buffer.alloc(32)]);
}

/** Keeps up a flood until it is stopped; counts the connections. */
class Flood {
  count = 0;
  readonly #port: number;
  readonly #idle: Socket[] = [];
  #isOn = true;
  readonly #done: Promise<void>;

  constructor(port: number, { rate, idle }: FloodOptions) {
    this.#port = port;
    this.#done = this.#run(rate, idle);
  }

  async stop(): Promise<void> {
    this.#isOn = false;
    await this.#done;
    for (const socket of this.#idle.splice(0)) socket.destroy();
  }

  async #run(rate: number, idle: number): Promise<void> {
    const start = performance.now();
    let renewed = -Infinity;
    while (this.#isOn) {
      const elapsed = performance.now() - start;
      // Idle connections are closed after five seconds: then there are new ones.
      if (elapsed - renewed > 5000) {
        renewed = elapsed;
        for (const socket of this.#idle.splice(0)) socket.destroy();
        for (let i = 0; i < idle; i++) this.#idle.push(this.#open());
      }
      for (const due = (rate * elapsed) / 1000; this.count < due; this.count++) {
        const socket = this.#open();
        socket.write(openings[this.count % openings.length] ?? '', () => socket.resetAndDestroy());
      }
      await sleep(5);
    }
  }

  #open(): Socket {
    const socket = connect({ host: '127.0.0.1', port: this.#port });
    return socket.on('error', () => undefined).resume();
  }
}

/** Milliseconds of every step so far. */
function stepMs(path: string, batch: number): number[] {
  const lines = readFileSync(path, 'utf8').split('\n').slice(0, -1);
  const records = lines.map((line) => JSON.parse(line) as { kind: string; imagesPerSecond: number });
  return records.filter(({ kind }) => kind === 'step').map(({ imagesPerSecond }) => (1000 * batch) / imagesPerSecond);
}

/** What all threads of a process have used; the kernel counts in hundredths of a second. */
function cpuSeconds(pid: number | undefined): number {
  const stat = readFileSync(`/proc/${String(pid)}/stat`, 'utf8');
  const [user, system] = stat
    .slice(stat.lastIndexOf(')') + 2)
    .split(' ')
    .slice(11, 13);
  return (Number(user) + Number(system)) / 100;
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? NaN;
}

async function measure(options: FloodOptions, folder: string): Promise<void> {
  const { network, batch, windows, seconds, warmup } = options;
  const start = (script: string, ...args: string[]) => {
    const child = spawn(process.execPath, [script, ...args], { cwd: folder, stdio: ['ignore', 'pipe', 'inherit'] });
    let output = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (output += text));
    return { child, ended: once(child, 'exit'), output: () => output };
  };
  await start(command('coordinator'), 'keygen').ended;
  const run = [
    '--network',
    network,
    '--batch',
    batch,
    '--init',
    'he',
    '--steps',
    '1000000',
    '--eval-every',
    '1000000',
    '--run-dir',
    'run',
  ];
  const data = ['--data', network === 'compact' ? 'synthetic:64,10,12800' : 'synthetic:64,10,1280'];
  const coordinator = start(command('coordinator'), 'start', '--bind', 'tcp://127.0.0.1:0', '--keys', 'keys', ...run, ...data);
  const workers: ReturnType<typeof start>[] = [];
  try {
    const waitFor = async <T>(find: () => T | undefined): Promise<T> => {
      for (;;) {
        const found = find();
        if (found !== undefined) return found;
        if (coordinator.child.exitCode !== null) throw new Error(`the run has ended: ${coordinator.output()}`);
        await sleep(50);
      }
    };
    const port = await waitFor(() => /listening at tcp:\/\/127\.0\.0\.1:(\d+)/.exec(coordinator.output())?.[1]);
    for (const name of ['tower0', 'tower1']) {
      const keys = ['--key', `keys/${name}.key`, '--coordinator-key', 'keys/coordinator.pub'];
      workers.push(start(command('worker'), '--cpu', '--threads', '1', '--coordinator', `tcp://127.0.0.1:${port}`, ...keys));
    }
    const steps = (): number[] => stepMs(join(folder, 'run/metrics.jsonl'), Number(batch));
    await waitFor(() => (coordinator.output().includes('step') && steps().length >= warmup ? true : undefined));
    const window = async (): Promise<{ ms: number; coordinatorShare: number }> => {
      const before = steps().length;
      const cpuBefore = cpuSeconds(coordinator.child.pid);
      await sleep(1000 * seconds);
      const coordinatorShare = (100 * (cpuSeconds(coordinator.child.pid) - cpuBefore)) / seconds;
      // The first step may have begun before the window did.
      return { ms: median(steps().slice(before + 1)), coordinatorShare };
    };
    const ratios: number[] = [];
    for (let i = 0; i < windows; i++) {
      const quiet = await window();
      const cpuBefore = process.cpuUsage();
      const flood = new Flood(Number(port), options);
      const flooded = await window();
      await flood.stop();
      const { user, system } = process.cpuUsage(cpuBefore);
      const ratio = flooded.ms / quiet.ms;
      ratios.push(ratio);
      const share = ((user + system) / 1e6 / seconds) * 100;
      console.log(
        `window ${String(i + 1)}: ${quiet.ms.toFixed(1)} ms a step, ${flooded.ms.toFixed(1)} under ${String(flood.count)} bad connections: ${ratio.toFixed(3)} ` +
          `(coordinator ${quiet.coordinatorShare.toFixed(0)}% of a core, then ${flooded.coordinatorShare.toFixed(0)}%; the flood itself ${share.toFixed(0)}%)`,
      );
      // What is idle is closed, and what was closed is forgotten, before it is quiet again.
      await sleep(1000);
    }
    const sorted = ratios.toSorted((a, b) => a - b);
    console.log(
      `a step under the flood takes ${median(ratios).toFixed(3)} times as long (${sorted[0]?.toFixed(3) ?? ''} to ${sorted.at(-1)?.toFixed(3) ?? ''})`,
    );
  } finally {
    coordinator.child.kill('SIGTERM');
    await coordinator.ended;
    await Promise.all(workers.map(({ ended }) => ended));
  }
}

const options = parse();
if (options === undefined) {
  console.log(help);
} else {
  const folder = mkdtempSync(join(tmpdir(), 'crosstower-flood-'));
  try {
    await measure(options, folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
