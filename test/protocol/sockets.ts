// Helpers of the socket tests: both ends of a control link, and peers that do not play by the rules. Loopback only.

import { connect } from 'node:net';
import type { Socket as RawSocket } from 'node:net';
import { CoordinatorSocket } from '../../src/protocol/coordinatorSocket.ts';
import type { CoordinatorEvent } from '../../src/protocol/coordinatorSocket.ts';
import type { ConnectorCurve, ListenerCurve } from '../../src/protocol/curveKeys.ts';
import type { EventQueue } from '../../src/protocol/eventQueue.ts';
import type { Message, Outgoing, ToCoordinator, ToWorker } from '../../src/protocol/messages.ts';
import { WorkerSocket } from '../../src/protocol/workerSocket.ts';
import type { WorkerSocketEvent } from '../../src/protocol/workerSocket.ts';
import { parseRunConfig } from '../../src/spec/config.ts';

export const hello: Outgoing<Extract<ToCoordinator, { type: 'hello' }>> = {
  type: 'hello',
  step: 0,
  packageVersion: '0.1.0',
  host: 'here',
  pid: 1,
  device: 'none',
  tower: 'auto',
  replica: 'auto',
};

export const assign: Outgoing<Extract<ToWorker, { type: 'assign' }>> = {
  type: 'assign',
  step: 0,
  tower: 0,
  replica: 0,
  config: parseRunConfig({}, 'test'),
  classes: 10,
  picture: { height: 28, width: 28, channels: 1 },
  mean: [33],
  deviation: [78],
  sentBlocks: 0,
  links: [],
};

/** Takes events until one fits; throws if none comes within five seconds. */
export async function next<Event, Found extends Event>(
  events: EventQueue<Event>,
  fits: (event: Event) => event is Found,
): Promise<Found> {
  const deadline = setTimeout(() => {
    events.end();
  }, 5000);
  try {
    for await (const event of events) if (fits(event)) return event;
    throw new Error('what was waited for did not happen within 5 s');
  } finally {
    clearTimeout(deadline);
  }
}

type MessageOf<Type> = Message<Extract<ToCoordinator, { type: Type }>>;
type OrderOf<Type> = Message<Extract<ToWorker, { type: Type }>>;

export function isMessage<Type extends ToCoordinator['type']>(type: Type) {
  return (event: CoordinatorEvent): event is Extract<CoordinatorEvent, { kind: 'message' }> & { message: MessageOf<Type> } =>
    event.kind === 'message' && event.message.header.type === type;
}

export function isOrder<Type extends ToWorker['type']>(type: Type) {
  return (event: WorkerSocketEvent): event is Extract<WorkerSocketEvent, { kind: 'message' }> & { message: OrderOf<Type> } =>
    event.kind === 'message' && event.message.header.type === type;
}

export function isKind<Event extends { readonly kind: string }, Kind extends Event['kind']>(kind: Kind) {
  return (event: Event): event is Extract<Event, { kind: Kind }> => event.kind === kind;
}

/** Opens and closes what a test needs. */
export class Bench {
  readonly lines: string[] = [];
  readonly #closers: (() => void)[] = [];

  async coordinator(
    options: {
      address?: string;
      generation?: number;
      curve?: ListenerCurve;
      handshakeMs?: number;
      heartbeatTimeoutMs?: number;
    } = {},
  ): Promise<CoordinatorSocket> {
    const { address = 'tcp://127.0.0.1:0', generation = 1, curve, ...times } = options;
    const log = (line: string): void => {
      this.lines.push(line);
    };
    const coordinator = await CoordinatorSocket.bind({ address, run: 'r1', generation, log, curve, times });
    this.onClose(() => {
      coordinator.close(0);
    });
    return coordinator;
  }

  async worker(
    address: string,
    options: { joinTimeoutMs?: number; curve?: ConnectorCurve | undefined } = {},
  ): Promise<WorkerSocket> {
    const worker = await WorkerSocket.connect({ address, joinTimeoutMs: 5000, ...options });
    this.onClose(() => {
      worker.close(0);
    });
    return worker;
  }

  /** A worker that has said hello and been assigned. */
  async joined(coordinator: CoordinatorSocket, curve?: ConnectorCurve): Promise<{ worker: WorkerSocket; workerId: string }> {
    const worker = await this.worker(coordinator.address, { curve });
    worker.send(hello);
    const { workerId } = await next(coordinator.events, isMessage('hello'));
    coordinator.send(workerId, assign);
    await next(worker.events, isOrder('assign'));
    return { worker, workerId };
  }

  /** A bare tcp connection to the address of a ZeroMQ socket. */
  async raw(address: string): Promise<RawSocket> {
    const { hostname, port } = new URL(address.replace('tcp:', 'http:'));
    const raw = connect({ host: hostname, port: Number(port) });
    this.onClose(() => {
      raw.destroy();
    });
    // Being thrown out is what these connections are for.
    raw.on('error', () => undefined);
    await new Promise((resolve) => raw.once('connect', resolve));
    return raw;
  }

  onClose(closer: () => void): void {
    this.#closers.push(closer);
  }

  close(): void {
    for (const closer of this.#closers.splice(0).reverse()) closer();
    this.lines.length = 0;
  }
}

export function closed(raw: RawSocket): Promise<void> {
  raw.resume();
  return new Promise((resolve) => {
    if (raw.closed) resolve();
    else
      raw.once('close', () => {
        resolve();
      });
  });
}
