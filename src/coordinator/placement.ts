// What the workers of one generation are told before its first step: their place in it, where their neighbours listen, and the state that they
// start from. Each generation has one; between two there is none, and who joins then waits for the next.

import type { RunConfig } from '../spec/config.ts';
import { towers } from '../spec/layout.ts';
import type { CoordinatorSocket } from '../protocol/coordinatorSocket.ts';
import type { Outgoing, ToCoordinator, ToWorker } from '../protocol/messages.ts';
import { floatsPayload } from '../protocol/payloads.ts';
import type { PictureShape } from '../data/batch.ts';
import type { InitialState } from './initialState.ts';
import { LinkPlan } from './linkPlan.ts';
import type { Member } from './member.ts';
import type { Roster } from './roster.ts';
import { seatNumber } from './seats.ts';
import type { Waits } from './waits.ts';

/** What the towers of a generation start from, and the step that it is the state of. */
export interface GenerationStart {
  readonly state: InitialState;
  readonly step: number;
}

/** What the workers are told when they join. */
export interface RunFacts {
  readonly config: RunConfig;
  readonly classes: number;
  readonly picture: PictureShape;
  readonly mean: readonly number[];
  readonly deviation: readonly number[];
  /** Where a tower listens for its neighbours, unless its own command says otherwise. */
  readonly peerAddress: string;
  readonly packageVersion: string;
  /** Of the first generation. */
  readonly start: GenerationStart;
}

type PeerAddress = Outgoing<Extract<ToWorker, { type: 'peer' }>>;

interface Options {
  readonly socket: CoordinatorSocket;
  readonly facts: RunFacts;
  readonly roster: Roster;
  /** Of this generation. */
  readonly waits: Waits;
  readonly start: GenerationStart;
  /** Finds out who is alive. */
  readonly ask: () => Promise<void>;
}

export class Placement {
  readonly #options: Options;
  /** Tokens, and keys where the run is encrypted, of this generation alone. */
  readonly #links: LinkPlan;
  /** Where the neighbours of a seat listen for it. */
  readonly #addresses: { readonly seat: number; readonly message: PeerAddress }[] = [];
  #stateSent: Promise<void> = Promise.resolve();

  constructor(options: Options) {
    const { facts, socket } = options;
    this.#options = options;
    this.#links = new LinkPlan(facts.config.replicas, socket.isEncrypted);
  }

  /** Tells a worker its place, and sends it the state; a failure to send ends the generation's waits. */
  assign(member: Member): void {
    const { socket, facts, waits, start } = this.#options;
    const { config, classes, picture, mean, deviation, peerAddress } = facts;
    const { state, step } = start;
    const [{ replica, tower }] = member.seats;
    socket.send(member.workerId, {
      type: 'assign',
      step,
      tower: member.seats.length === towers.length ? 'both' : tower,
      replica,
      config,
      classes,
      picture,
      mean: [...mean],
      deviation: [...deviation],
      sentBlocks: member.seats.map((seat) => state.blockCount(seat.tower)).reduce((sum, count) => sum + count, 0),
      links: this.#links.endsOf(member.seats, peerAddress),
    });
    for (const { seat, message } of this.#addresses)
      if (member.seats.some((own) => seatNumber(own) === seat)) socket.send(member.workerId, message);
    // One worker after the other: a large tensor is in memory once.
    this.#stateSent = this.#stateSent.then(() => this.#sendState(member));
    this.#stateSent.catch((error: unknown) => {
      waits.fail(error instanceof Error ? error : new Error(String(error)));
    });
  }

  /** A tower listens for a neighbour, which is told where, now or when it joins. */
  takeAddress(member: Member, { tower, neighbour, address }: Extract<ToCoordinator, { type: 'link' }>): void {
    const { socket, roster } = this.#options;
    const [{ replica }] = member.seats;
    const seat = this.#links.connector({ replica, tower }, neighbour);
    const message = { type: 'peer', step: 0, tower: seat.tower, neighbour, address } as const;
    this.#addresses.push({ seat: seatNumber(seat), message });
    for (const { workerId } of roster.holders([seat])) socket.send(workerId, message);
  }

  /** Waits until no state is on its way any more, sent or given up. */
  async settled(): Promise<void> {
    await this.#stateSent.catch(() => undefined);
  }

  /** Block by block, each when the one before has arrived: a worker answers a ping when it has read what came before it. */
  async #sendState(member: Member): Promise<void> {
    const { socket, facts, roster, waits, start, ask } = this.#options;
    const { workerId, seats } = member;
    for (const { tower } of seats) {
      const total = start.state.blockCount(tower);
      let index = 0;
      for await (const { name, of, values } of start.state.blocks(tower)) {
        socket.send(workerId, { type: 'weights', step: 0, tower, of, name, index, total }, floatsPayload(values));
        index++;
        member.answers = false;
        socket.send(workerId, { type: 'ping', step: 0 });
        await waits.until(() => member.answers, {
          ms: 1000 * facts.config.joinTimeout,
          ask,
          what: () => `${roster.describe(member)} did not take ${name}`,
        });
      }
    }
  }
}
