// What the workers have said in a generation, until somebody takes it: by kind, step and batch, then by seat.

import type { Message, ToCoordinator } from '../protocol/messages.ts';
import { seatNumber } from './seats.ts';
import type { Seat } from './seats.ts';

type Kind = ToCoordinator['type'];
export type Heard<K extends Kind> = Message<Extract<ToCoordinator, { type: K }>>;

/** Names one round of messages, of which each seat sends one. */
export function heardKey(kind: Kind, step: number, index: number): string {
  return `${kind} ${String(step)} ${String(index)}`;
}

export class HeardMessages {
  readonly #rounds = new Map<string, Map<number, Message<ToCoordinator>>>();

  add(key: string, seat: Seat, message: Message<ToCoordinator>): void {
    let round = this.#rounds.get(key);
    if (round === undefined) {
      round = new Map<number, Message<ToCoordinator>>();
      this.#rounds.set(key, round);
    }
    round.set(seatNumber(seat), message);
  }

  /** Seats that have been heard in a round. */
  count(key: string): number {
    return this.#rounds.get(key)?.size ?? 0;
  }

  /** Those of `seats` that have not. */
  silent(key: string, seats: readonly Seat[]): Seat[] {
    return seats.filter((seat) => this.#rounds.get(key)?.has(seatNumber(seat)) !== true);
  }

  /** Takes a round out, in the order of the seats; all of them must have been heard. */
  take<K extends Kind>(key: string, seats: readonly Seat[]): Heard<K>[] {
    const round = this.#rounds.get(key);
    this.#rounds.delete(key);
    return seats.map((seat) => round?.get(seatNumber(seat)) as Heard<K>);
  }

  clear(): void {
    this.#rounds.clear();
  }
}
