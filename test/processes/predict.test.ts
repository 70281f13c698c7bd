// A worker answers `predict` batches with probabilities, whether it holds one tower or both; the test is its coordinator.

import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { afterEach, expect, test } from 'vitest';
import { LinkPlan } from '../../src/coordinator/linkPlan.ts';
import { batchPayload, readFloatsPayload } from '../../src/protocol/payloads.ts';
import { parseRunConfig } from '../../src/spec/config.ts';
import { towers } from '../../src/spec/layout.ts';
import { Bench, assign, isMessage, next } from '../protocol/sockets.ts';

const bench = new Bench();
afterEach(() => {
  bench.close();
});

const [pictures, classes, size] = [3, 10, 28];
const config = parseRunConfig({ network: 'tiny', init: 'he', pixels: 'standardized' }, 'test');

/** The probabilities of three pictures, from workers that draw their weights. */
async function predictions(workers: readonly ('both' | 0 | 1)[]): Promise<Float32Array> {
  const coordinator = await bench.coordinator();
  const script = fileURLToPath(new URL('../../dist/src/worker/cli.js', import.meta.url));
  const ids: string[] = [];
  const plan = new LinkPlan(1, false);
  let peerAddress = '';
  for (const tower of workers) {
    const flags = ['--cpu', '--threads', '1', '--coordinator', coordinator.address, '--tower', String(tower)];
    const child = spawn(process.execPath, [script, ...flags], { stdio: 'ignore' });
    bench.onClose(() => child.kill('SIGKILL'));
    const { workerId } = await next(coordinator.events, isMessage('hello'));
    ids.push(workerId);
    const seats = (tower === 'both' ? towers : [tower]).map((each) => ({ replica: 0, tower: each }));
    const links = plan.endsOf(seats, 'tcp://127.0.0.1:0');
    coordinator.send(workerId, { ...assign, config, classes, tower, links });
    if (tower === 0) {
      const { message } = await next(coordinator.events, isMessage('link'));
      peerAddress = message.header.address;
    }
    if (tower === 1) coordinator.send(workerId, { type: 'peer', step: 0, tower, neighbour: 'tower', address: peerAddress });
  }
  for (const _ of ids) await next(coordinator.events, isMessage('ready'));
  const pixels = Uint8Array.from({ length: pictures * size * size }, (_, i) => (i * 37) % 256);
  const payload = batchPayload({ labels: new Int32Array(pictures), pixels });
  const shape = { height: size, width: size, channels: 1, hasColour: false } as const;
  for (const id of ids) {
    coordinator.send(id, { type: 'begin', step: 0 });
    const batch = {
      type: 'batch',
      step: 4,
      kind: 'predict',
      epoch: 0,
      index: 7,
      count: pictures,
      first: 0,
      of: pictures,
      ...shape,
    } as const;
    coordinator.send(id, batch, payload);
  }
  const { message } = await next(coordinator.events, isMessage('predictions'));
  expect(message.header).toMatchObject({ tower: 0, step: 4, index: 7, count: pictures, classes });
  return readFloatsPayload(message.payload, pictures * classes);
}

test('probabilities of two workers are those of one with both towers, to the bit; a row sums to one', async () => {
  const together = await predictions(['both']);
  for (let picture = 0; picture < pictures; picture++) {
    const row = together.subarray(picture * classes, (picture + 1) * classes);
    expect(row.reduce((sum, share) => sum + share, 0)).toBeCloseTo(1, 6); // Ten float32 roundings.
  }
  expect(new Set(together).size).toBeGreaterThan(pictures); // Not all alike.
  bench.close();
  expect(await predictions([0, 1])).toEqual(together);
});
