// The link between the towers where it is more than an exchange: who is let in, what happens when it breaks, and that it lets a process end.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Interface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import typescript from 'typescript';
import { afterEach, describe, expect, test } from 'vitest';
import { Dealer } from 'zeromq';
import { encodeMessage } from '../../src/protocol/frames.ts';
import { ZeromqExchange } from '../../src/protocol/zeromqExchange.ts';
import type { ZeromqExchangeOptions } from '../../src/protocol/zeromqExchange.ts';
import { PeerLostError, RefusedError, UsageError } from '../../src/spec/errors.ts';
import type { SwapTag, TensorData } from '../../src/spec/exchange.ts';

const options: ZeromqExchangeOptions = {
  address: 'tcp://127.0.0.1:0',
  run: 'r1',
  generation: 2,
  token: 'a-token-of-16-characters',
  joinTimeoutMs: 5000,
};
const tag: SwapTag = { step: 3, site: 'conv3', phase: 'forward', microBatch: 0 };
const tensor: TensorData = { shape: [2, 2], values: Float32Array.of(1, 2, 3, 4) };
const tensorHeader = { run: 'r1', generation: 2, type: 'tensor', ...tag, shape: [1] };

const closers: (() => void)[] = [];
afterEach(() => {
  for (const closer of closers.splice(0).reverse()) closer();
});

async function bind(changes: Partial<ZeromqExchangeOptions> = {}): Promise<ZeromqExchange> {
  const exchange = await ZeromqExchange.bind({ ...options, ...changes });
  closers.push(() => {
    exchange.close();
  });
  return exchange;
}

async function connectTo(address: string, changes: Partial<ZeromqExchangeOptions> = {}): Promise<ZeromqExchange> {
  const exchange = await ZeromqExchange.connect({ ...options, address, ...changes });
  closers.push(() => {
    exchange.close();
  });
  return exchange;
}

/** A tower 1 that is not ours, but knows (or does not know) the token. */
function impostor(address: string, token: string): Dealer {
  const dealer = new Dealer({ linger: 0, routingId: token, receiveTimeout: 2000 });
  dealer.connect(address);
  closers.push(() => {
    dealer.close();
  });
  return dealer;
}

describe('a link between towers', () => {
  test('lets nobody in who does not know the token, and counts them', async () => {
    const zero = await bind();
    const stranger = impostor(zero.address, 'another-token-16-chars');
    await stranger.send(encodeMessage({ run: 'r1', generation: 2, type: 'open', step: 0, tower: 1 }));
    await stranger.send(['garbage', 'more']);
    await expect.poll(() => zero.dropped.foreign).toBe(2);
    const one = await connectTo(zero.address);
    await Promise.all([zero.ready, one.ready]);
    await stranger.send(encodeMessage({ ...tensorHeader }));
    const swap0 = zero.swap(tag, tensor);
    const swap1 = one.swap(tag, tensor);
    expect((await swap0.received).values).toEqual(tensor.values);
    await swap1.received;
    await expect.poll(() => zero.dropped.foreign).toBe(3);
  });

  test('drops what an earlier generation or another run left behind, and counts it', async () => {
    const zero = await bind();
    const one = impostor(zero.address, options.token);
    await one.send(encodeMessage({ run: 'r1', generation: 1, type: 'open', step: 0, tower: 1 }));
    await one.send(encodeMessage({ run: 'r0', generation: 2, type: 'open', step: 0, tower: 1 }));
    await one.send(encodeMessage({ run: 'r1', generation: 2, type: 'open', step: 0, tower: 1 }));
    await zero.ready;
    const { received } = zero.swap(tag, tensor);
    await one.send(encodeMessage({ ...tensorHeader, generation: 1 }, [new Uint8Array(4)]));
    await one.send(encodeMessage(tensorHeader, [new Uint8Array(4)]));
    expect((await received).shape).toEqual([1]);
    expect(zero.dropped.stale).toBe(3);
  });

  test.each([
    [
      'a damaged tensor',
      (frames: Uint8Array[]) => [...frames.slice(0, -1), Uint8Array.of(9, 9, 9, 9)],
      /damaged .*tensor step 3 .*conv3/,
    ],
    ['a tensor of another size', (frames: Uint8Array[]) => [...frames, Uint8Array.of(1)], /5 bytes instead of 4/],
    ['garbage', () => [Uint8Array.of(0xc1)], /nonsense/],
  ])('ends for good when the other tower sends %s', async (_, damage, expected) => {
    const zero = await bind();
    const one = impostor(zero.address, options.token);
    await one.send(encodeMessage({ run: 'r1', generation: 2, type: 'open', step: 0, tower: 1 }));
    await zero.ready;
    const { received } = zero.swap(tag, tensor);
    await one.send(damage(encodeMessage(tensorHeader, [Uint8Array.of(0, 0, 0, 0)])));
    await expect(received).rejects.toThrow(expected);
    await expect(received).rejects.toBeInstanceOf(PeerLostError);
    await expect(zero.swap({ ...tag, step: 4 }, tensor).received).rejects.toThrow(expected);
  });

  test('that is cut in mid-tensor ends on both sides within two seconds, whoever had bound', async () => {
    const zero = await bind();
    // Tower 1 goes through a proxy, which dies with half a tensor on its way.
    const { port } = new URL(zero.address.replace('tcp:', 'http:'));
    let passed = 0;
    const proxy = createServer((inner) => {
      const outer = connect({ host: '127.0.0.1', port: Number(port) });
      inner.on('error', () => undefined);
      outer.on('error', () => undefined);
      outer.pipe(inner);
      inner.on('data', (chunk) => {
        passed += chunk.length;
        if (passed > 5e6) {
          inner.resetAndDestroy();
          outer.resetAndDestroy();
        } else {
          outer.write(chunk);
        }
      });
    });
    proxy.listen(0, '127.0.0.1');
    await once(proxy, 'listening');
    closers.push(() => proxy.close());
    const bound = proxy.address();
    if (bound === null || typeof bound === 'string') throw new Error('no port');
    const one = await connectTo(`tcp://127.0.0.1:${String(bound.port)}`);
    await Promise.all([zero.ready, one.ready]);
    const start = performance.now();
    const swap1 = one.swap(tag, { shape: [5e6], values: new Float32Array(5e6) });
    const swap0 = zero.swap(tag, tensor);
    const later = one.swap({ ...tag, step: 4 }, tensor);
    await expect(swap0.received).rejects.toBeInstanceOf(PeerLostError);
    await expect(later.received).rejects.toBeInstanceOf(PeerLostError);
    expect(performance.now() - start).toBeLessThan(2000);
    await swap1.received.catch(() => undefined);
  });

  test('does not end because a stranger hangs up', async () => {
    const zero = await bind();
    const one = await connectTo(zero.address);
    await Promise.all([zero.ready, one.ready]);
    const stranger = new Dealer({ linger: 0 });
    stranger.connect(zero.address);
    await stranger.send('x');
    await expect.poll(() => zero.dropped.foreign).toBe(1);
    stranger.close();
    await new Promise((resolve) => setTimeout(resolve, 300));
    const swap0 = zero.swap(tag, tensor);
    await one.swap(tag, tensor).received;
    await swap0.received;
  });

  test('that nobody joins is given up, naming tower and address', async () => {
    const zero = await bind({ joinTimeoutMs: 100 });
    await expect(zero.ready).rejects.toThrow(`tower 1 did not join the link at ${zero.address}`);
    await expect(zero.ready).rejects.toBeInstanceOf(PeerLostError);
    const one = await connectTo('tcp://127.0.0.1:9', { joinTimeoutMs: 100 });
    await expect(one.ready).rejects.toThrow('tower 0 did not join the link at tcp://127.0.0.1:9');
  });

  test('may be joined before it is there', async () => {
    const first = await bind();
    const { address } = first;
    first.close();
    const one = await connectTo(address);
    await new Promise((resolve) => setTimeout(resolve, 150));
    const zero = await bind({ address });
    await Promise.all([zero.ready, one.ready]);
  });

  test('refuses an address that is taken or makes no sense', async () => {
    const zero = await bind();
    await expect(bind({ address: zero.address })).rejects.toThrow(RefusedError);
    await expect(bind({ address: 'nowhere' })).rejects.toThrow(UsageError);
    await expect(connectTo('tcp://no-such-host.invalid:1')).rejects.toThrow(UsageError);
  });

  test('remembers its last 64 headers', async () => {
    const zero = await bind();
    const one = await connectTo(zero.address);
    await Promise.all([zero.ready, one.ready]);
    for (let step = 0; step < 40; step++) {
      const swap0 = zero.swap({ ...tag, step }, tensor);
      await one.swap({ ...tag, step }, tensor).received;
      await swap0.received;
    }
    const lines = zero.recentHeaders();
    expect(lines.length).toBe(64);
    expect(lines.at(-1)).toMatch(/^\d+ ms ago (in|out) tensor step 39 .*site conv3 phase forward microBatch 0$/);
  });
});

describe('two processes', () => {
  // Each ends by itself, without process.exit, although tower 0 still has a tensor on its way that tower 1 never asks for.
  const script = `
    import { ZeromqExchange } from './src/protocol/zeromqExchange.js';
    const [tower, address] = process.argv.slice(1);
    const options = { address, run: 'r1', generation: 1, token: 'a-token-of-16-characters', joinTimeoutMs: 10000, timeoutMs: 60000 };
    const exchange = tower === '0' ? await ZeromqExchange.bind(options) : await ZeromqExchange.connect(options);
    if (tower === '0') console.log(exchange.address);
    await exchange.ready;
    const tag = { step: 1, site: 'conv3', phase: 'forward', microBatch: 0 };
    const { received } = exchange.swap(tag, { shape: [1000000], values: new Float32Array(1000000).fill(tower) });
    console.log((await received).values.at(-1));
    if (tower === '0') exchange.swap({ ...tag, step: 2 }, { shape: [10000000], values: new Float32Array(10000000) });
    exchange.close();`;

  test('swap, and end once their links are closed', async () => {
    const folder = compileProtocol();
    closers.push(() => {
      rmSync(folder, { recursive: true });
    });
    const start = (...args: string[]): { lines: Interface; exit: Promise<unknown[]> } => {
      const child = spawn(process.execPath, ['--input-type=module', '-e', script, ...args], {
        cwd: folder,
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      closers.push(() => child.kill('SIGKILL'));
      return { lines: createInterface(child.stdout), exit: once(child, 'exit') };
    };
    const nextLine = async (lines: Interface): Promise<string> => String((await once(lines, 'line'))[0]);
    const zero = start('0', 'tcp://127.0.0.1:0');
    const address = await nextLine(zero.lines);
    const one = start('1', address);
    expect(await Promise.all([nextLine(zero.lines), nextLine(one.lines)])).toEqual(['1', '0']);
    expect((await Promise.all([zero.exit, one.exit])).map(([code]) => code)).toEqual([0, 0]);
  });
});

/** Translates src/spec and src/protocol for a process that cannot read TypeScript; returns the folder. */
function compileProtocol(): string {
  const folder = mkdtempSync(join(tmpdir(), 'protocol-'));
  const root = fileURLToPath(new URL('../..', import.meta.url));
  symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
  writeFileSync(join(folder, 'package.json'), '{ "type": "module" }');
  const { ModuleKind, ScriptTarget } = typescript;
  const compilerOptions = { module: ModuleKind.ESNext, target: ScriptTarget.ES2023, rewriteRelativeImportExtensions: true };
  for (const source of ['src/spec', 'src/protocol']) {
    mkdirSync(join(folder, source), { recursive: true });
    for (const file of readdirSync(join(root, source))) {
      const { outputText } = typescript.transpileModule(readFileSync(join(root, source, file), 'utf8'), {
        compilerOptions,
        fileName: file,
      });
      writeFileSync(join(folder, source, file.replace(/ts$/, 'js')), outputText);
    }
  }
  return folder;
}
