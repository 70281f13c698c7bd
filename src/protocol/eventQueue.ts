// Events between whoever produces them and the one loop that consumes them (`for await`).
// Invariant: order is kept, nothing is lost before `end`; the producer asks for room before it reads more from a socket.

const roomy = 256;

/** A queue with one consumer. */
export class EventQueue<T> implements AsyncIterable<T> {
  readonly #events: T[] = [];
  #wakeConsumer: (() => void) | undefined;
  #wakeProducer: (() => void) | undefined;
  #ended = false;

  push(event: T): void {
    if (this.#ended) return;
    this.#events.push(event);
    this.#wakeConsumer?.();
  }

  /** The consumer gets what is queued, and then the end. */
  end(): void {
    this.#ended = true;
    this.#wakeConsumer?.();
    this.#wakeProducer?.();
  }

  /** Waits while more than 256 events are queued. */
  async room(): Promise<void> {
    while (this.#events.length > roomy && !this.#ended) {
      await new Promise<void>((resolve) => (this.#wakeProducer = resolve));
    }
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T, void, undefined> {
    for (;;) {
      const event = this.#events.shift();
      if (event !== undefined) {
        if (this.#events.length <= roomy) this.#wakeProducer?.();
        yield event;
      } else if (this.#ended) {
        return;
      } else {
        await new Promise<void>((resolve) => (this.#wakeConsumer = resolve));
      }
    }
  }
}
