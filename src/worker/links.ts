// The links of a worker: to the other tower of its replica, and around the ring of its tower's replicas, where there is more than one.
// Every link has one end that listens and one that connects: tower 0 listens for tower 1, and each replica for the next. Who listens tells
// the coordinator where, and the coordinator tells whoever connects.
// Invariant: all links are up, or none is left open.

import type { Exchange, OneWayLink } from '../spec/exchange.ts';
import type { GradientSum } from '../spec/gradientSum.ts';
import { towers } from '../spec/layout.ts';
import type { TowerIndex } from '../spec/layout.ts';
import { memoryExchangePair } from '../protocol/memoryExchange.ts';
import { RingSum } from '../protocol/ringSum.ts';
import type { EndNames } from '../protocol/swapBoard.ts';
import type { WorkerSocket } from '../protocol/workerSocket.ts';
import { ZeromqExchange } from '../protocol/zeromqExchange.ts';
import type { Inbox, Received } from './inbox.ts';

/** What a tower of this worker is linked to. */
export interface TowerLinks {
  readonly exchange: Exchange;
  /** None where there is one replica. */
  readonly gradientSum: GradientSum | undefined;
}

export interface LinkOptions {
  readonly joinTimeoutMs: number;
  /** Where tower 0 listens for tower 1, and on whose host for the next replica; chosen by the coordinator otherwise. */
  readonly peerAddress?: string;
}

type Assignment = Received<'assign'>['header'];
type Neighbour = Received<'peer'>['header']['neighbour'];

/** Joins every link of the towers of this worker; throws what a link could not be joined for. */
export async function joinLinks(
  socket: WorkerSocket,
  inbox: Inbox,
  assignment: Assignment,
  options: LinkOptions,
): Promise<ReadonlyMap<TowerIndex, TowerLinks>> {
  const { config, link, replica, run, generation } = assignment;
  const { replicas } = config;
  const { joinTimeoutMs, peerAddress } = options;
  const held = assignment.tower === 'both' ? towers : [assignment.tower];
  const limits = { timeoutMs: 1000 * config.stepTimeout, signal: inbox.signal };
  const opened: ZeromqExchange[] = [];
  const optionsOf = (tower: TowerIndex, neighbour: Neighbour, from: number) => ({
    ...limits,
    run,
    generation,
    joinTimeoutMs,
    token: `${assignment.peerToken}-${neighbour === 'tower' ? 'pair' : `ring-${String(tower)}`}-${String(from)}`,
    ends: endNames(tower, neighbour, from, replicas),
  });
  const listen = async (tower: TowerIndex, neighbour: Neighbour, address: string): Promise<ZeromqExchange> => {
    const exchange = await ZeromqExchange.bind({ ...optionsOf(tower, neighbour, replica), address });
    opened.push(exchange);
    socket.send({ type: 'link', step: 0, tower, neighbour, address: exchange.address });
    return exchange;
  };

  try {
    const pair = link.role === 'bind' ? await listen(0, 'tower', peerAddress ?? link.address) : undefined;
    const next = new Map<TowerIndex, ZeromqExchange>();
    const previous = new Map<TowerIndex, ZeromqExchange>();
    if (replicas > 1)
      for (const tower of held)
        next.set(tower, await listen(tower, 'replica', ringAddress(tower, peerAddress) ?? assignment.ringAddress));

    let second: ZeromqExchange | undefined;
    const expected = (link.role === 'connect' ? 1 : 0) + next.size;
    for (let heard = 0; heard < expected; heard++) {
      const { header } = await inbox.take(['peer'], { ms: joinTimeoutMs, what: 'the address of another worker' });
      const { tower, neighbour, address } = header;
      const from = neighbour === 'tower' ? replica : (replica + replicas - 1) % replicas;
      const exchange = await ZeromqExchange.connect({ ...optionsOf(tower, neighbour, from), address });
      opened.push(exchange);
      if (neighbour === 'tower') second = exchange;
      else previous.set(tower, exchange);
    }
    await Promise.all(opened.map(({ ready }) => ready));

    const inMemory = link.role === 'none' ? memoryExchangePair(limits) : undefined;
    return new Map(
      held.map((tower) => {
        const exchange = inMemory?.[tower] ?? (tower === 0 ? pair : second);
        if (exchange === undefined) throw new Error(`tower ${String(tower)} has no link to the other one`);
        return [tower, { exchange, gradientSum: ringOf(replica, replicas, next.get(tower), previous.get(tower)) }];
      }),
    );
  } catch (error) {
    for (const exchange of opened) exchange.close();
    throw error;
  }
}

/** Gives all links up. */
export function closeLinks(links: ReadonlyMap<TowerIndex, TowerLinks>): void {
  for (const { exchange, gradientSum } of links.values()) {
    exchange.close();
    gradientSum?.close();
  }
}

function ringOf(
  replica: number,
  replicas: number,
  next: OneWayLink | undefined,
  previous: OneWayLink | undefined,
): GradientSum | undefined {
  return next === undefined || previous === undefined ? undefined : new RingSum({ replica, replicas, next, previous });
}

/** What messages call the two ends of a link. */
function endNames(tower: TowerIndex, neighbour: Neighbour, from: number, replicas: number): EndNames {
  const nameOf = (which: TowerIndex, replica: number): string =>
    replicas === 1 ? `tower ${String(which)}` : `tower ${String(which)} of replica ${String(replica)}`;
  return neighbour === 'tower' ? [nameOf(0, from), nameOf(1, from)] : [nameOf(tower, from), nameOf(tower, (from + 1) % replicas)];
}

/** On the host that this worker was told to listen at, with a port of its own. */
function ringAddress(tower: TowerIndex, peerAddress: string | undefined): string | undefined {
  if (peerAddress?.startsWith('ipc:') === true) return `${peerAddress}-ring-${String(tower)}`;
  return peerAddress?.replace(/:[^:]*$/, ':0');
}
