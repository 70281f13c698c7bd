// Who is turned away, and that a run which is under way does not care: neither for workers too many nor for strangers.

import { randomBytes } from 'node:crypto';
import { connect } from 'node:net';
import { Packr, Unpackr } from 'msgpackr';
import { beforeAll, describe, expect } from 'vitest';
import { Dealer } from 'zeromq';
import { protocolVersion } from '../../src/protocol/messages.ts';
import { endless, freeAddress, Stage, test } from './stage.ts';

const steps = 200;
const soonMs = 5000;

describe('a run with visitors', () => {
  let undisturbed = '';
  beforeAll(async () => {
    const stage = new Stage();
    undisturbed = await stage.trainedModel({ steps });
    stage.clear();
  });

  test('refuses a second worker for a tower and a third one for any, names who is there, and trains on', async ({ stage }) => {
    const { coordinator, address, workers } = await stage.run({ steps: endless });
    await stage.reached(3);
    const second = stage.worker({ coordinator: address, tower: 0 });
    const third = stage.worker({ coordinator: address });
    expect(await second.exit()).toBe(4);
    expect(second.lastLine).toMatch(/^worker: tower 0 \(.+, pid \d+\) is there already$/);
    expect(await third.exit()).toBe(4);
    expect(third.lastLine).toMatch(/^worker: both towers are taken: tower \d \(.+, pid \d+\) and tower \d \(.+, pid \d+\)$/);
    expect(coordinator.output.match(/refused a worker/g)).toHaveLength(2);

    await stage.reached(stage.steps().length + 5);
    coordinator.signal('SIGINT');
    expect(await coordinator.exit()).toBe(75);
    expect(await Promise.all(workers.map((worker) => worker.exit()))).toEqual([75, 75]);
  });

  test('refuses a worker of another protocol version, with both versions, and trains on', async ({ stage }) => {
    const { coordinator, address } = await stage.run({ steps: endless });
    await stage.reached(3);
    const refusal = await answerTo(address, helloOf({ version: 99 }));
    expect(refusal).toMatchObject({ type: 'refuse', exitCode: 4 });
    expect(refusal['message']).toContain(`protocol 99, this one ${protocolVersion}`);
    await coordinator.said(/turned worker-[0-9a-f]{32} away: .*99/);

    await stage.reached(stage.steps().length + 5);
    coordinator.signal('SIGINT');
    expect(await coordinator.exit()).toBe(75);
  });

  test('comes to the same weights when strangers talk nonsense to the coordinator and to tower 0', async ({ stage }) => {
    const peerAddress = await freeAddress();
    const coordinator = stage.coordinator({ steps });
    const address = await coordinator.address();
    const workers = [
      stage.worker({ coordinator: address, tower: 0, 'peer-address': peerAddress }),
      stage.worker({ coordinator: address, tower: 1 }),
    ];
    await stage.reached(3);
    const closers = [address, peerAddress].flatMap((target) => [
      ...visitRaw(target, Buffer.from('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n')),
      ...visitRaw(target, randomBytes(10_000)),
      ...visitRaw(target, Buffer.alloc(0)),
      ...visitFramed(target),
    ]);
    expect(await coordinator.exit()).toBe(0);
    expect(await Promise.all(workers.map((worker) => worker.exit()))).toEqual([0, 0]);
    closers.forEach((close) => {
      close();
    });
    expect(stage.steps()).toHaveLength(steps);
    expect(stage.modelHash()).toBe(undisturbed);
  });
});

test('a second coordinator at an address in use is refused, names it, and leaves the first alone', async ({ stage }) => {
  const first = stage.coordinator({ steps: 3 });
  const address = await first.address();
  const second = stage.coordinator({ bind: address, 'run-dir': 'second' });
  expect(await second.exit(soonMs)).toBe(4);
  expect(second.lastLine).toBe(`coordinator: ${address} is in use: another coordinator or worker listens there`);
  const worker = stage.worker({ coordinator: address, tower: 'both' });
  expect(await first.exit()).toBe(0);
  expect(await worker.exit()).toBe(0);
});

/** A hello as a worker sends it, with other values for some fields. */
function helloOf(fields: Readonly<Record<string, unknown>> = {}): Record<string, unknown> {
  const hello = { version: protocolVersion, run: '', generation: 0, step: 0, type: 'hello', packageVersion: '0.1.0' };
  return { ...hello, host: 'here', pid: 1, device: 'none', tower: 'auto', replica: 'auto', ...fields };
}

/** Sends a header as a worker would, and gives the header that comes back. */
async function answerTo(address: string, header: object): Promise<Record<string, unknown>> {
  const dealer = new Dealer({ linger: 0, receiveTimeout: soonMs, routingId: `worker-${randomBytes(16).toString('hex')}` });
  try {
    dealer.connect(address);
    await dealer.send(new Packr({ useRecords: false }).pack(header));
    const [answer] = await dealer.receive();
    return new Unpackr({ mapsAsObjects: true }).unpack(answer!) as Record<string, unknown>;
  } finally {
    dealer.close();
  }
}

/** Twenty bare connections that say this and stay. */
function visitRaw(address: string, bytes: Buffer): (() => void)[] {
  const { hostname, port } = new URL(address.replace('tcp:', 'http:'));
  return Array.from({ length: 20 }, () => {
    const raw = connect({ host: hostname, port: Number(port) });
    // Being thrown out is what these connections are for.
    raw.on('error', () => undefined).resume();
    raw.write(bytes);
    return () => raw.destroy();
  });
}

/** Peers that speak ZeroMQ and nothing else of ours: no id, a worker's id, and frames of all kinds. */
function visitFramed(address: string): (() => void)[] {
  const packr = new Packr({ useRecords: false });
  const messages: Uint8Array[][] = [
    [randomBytes(100)],
    [Buffer.alloc(0)],
    [packr.pack({ version: protocolVersion })],
    [packr.pack(helloOf({ type: 'gradients', tower: 0, loss: NaN }))],
    [packr.pack(helloOf({ tower: 7 }))],
    [packr.pack(helloOf({ payload: { bytes: 5, crc: 1 } })), randomBytes(5)],
    [packr.pack({ version: protocolVersion, run: '', generation: 1, step: 3, type: 'tensor', site: 'conv3', phase: 'forward' })],
    Array.from({ length: 50 }, () => randomBytes(10)),
    [Buffer.alloc(2 * 1024 * 1024)],
  ];
  return [undefined, `worker-${randomBytes(16).toString('hex')}`].flatMap((routingId) =>
    messages.map((frames) => {
      const dealer = new Dealer({ linger: 0, ...(routingId === undefined ? {} : { routingId: idLike(routingId) }) });
      dealer.connect(address);
      dealer.send(frames).catch(() => undefined);
      return () => {
        dealer.close();
      };
    }),
  );
}

/** Another id of the same kind. */
function idLike(id: string): string {
  return `${id.slice(0, -8)}${randomBytes(4).toString('hex')}`;
}
