// Work on many items at once whose results come in the items' order. Invariant: no more than `jobs` results are in hand at any time.

/** The results of `work` in order, up to `jobs` (1 or more) of them made at once; what it throws is thrown in its turn, and nothing new begins. */
export async function* inOrder<T>(
  items: Iterable<number>,
  jobs: number,
  work: (item: number, i: number) => Promise<T>,
): AsyncGenerator<T> {
  const inHand: Promise<T>[] = [];
  let i = 0;
  for (const item of items) {
    const result = work(item, i++);
    // Heard in its turn; if that never comes, somebody has thrown already.
    result.catch(() => undefined);
    inHand.push(result);
    const first = inHand.length < jobs ? undefined : inHand.shift();
    if (first !== undefined) yield await first;
  }
  for (const result of inHand) yield await result;
}
