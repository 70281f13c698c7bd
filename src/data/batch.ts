// What a dataset hands out: pictures as uint8 pixels, row-major [N,H,W,C], and a class for each.
// N pictures in a batch, H rows, W columns, C channels (1 grey, 3 RGB).

/** Height, width and channels of every picture that a dataset hands out. */
export interface PictureShape {
  readonly height: number;
  readonly width: number;
  readonly channels: 1 | 3;
}

/** Of a dataset's training pixels. */
export interface PixelStatistics {
  /** Per channel, in 0..255 [C]. */
  readonly mean: readonly number[];
  /** Per channel, of the population [C]. */
  readonly deviation: readonly number[];
  /** Of the channels' values with each other, in 0..255 units squared [C,C]. */
  readonly covariance: readonly (readonly number[])[];
}

export interface Batch {
  /** Pixels in 0..255 [N,H,W,C]. */
  readonly pixels: Uint8Array;
  /** Classes in 0..K-1 [N]. */
  readonly labels: Int32Array;
  /** What is added to the colour of each picture, in 0..255 [N,3] (paper, section 4.1); none for pictures that stay as they are. */
  readonly colour?: Float32Array;
  readonly shape: PictureShape;
}

/** Some consecutive rows of a batch, in the same memory. */
export function rowsOf(batch: Batch, { first, count }: { first: number; count: number }): Batch {
  const { labels, pixels, colour, shape } = batch;
  const size = shape.height * shape.width * shape.channels;
  return {
    shape,
    labels: labels.subarray(first, first + count),
    pixels: pixels.subarray(first * size, (first + count) * size),
    ...(colour === undefined ? {} : { colour: colour.subarray(3 * first, 3 * (first + count)) }),
  };
}

export type SplitName = 'train' | 'test';

/** Which pictures to load and how to change them. */
export interface BatchRequest {
  readonly split: SplitName;
  /** Decides crop and flip together with each index; training only. */
  readonly epoch: number;
  readonly indices: Uint32Array;
  /** Scores the pictures from one of ten views (augment.ts), whatever the split; none for the crop of the split. */
  readonly view?: number;
}

/** A dataset that is open for reading. Loads run in threads of their own, as many at once as are asked for. */
export interface DataSource {
  readonly name: string;
  /** Class names; their number is the network's. */
  readonly classes: readonly string[];
  readonly counts: Readonly<Record<SplitName, number>>;
  readonly shape: PictureShape;
  /** Mean and standard deviation of the training pixels per channel, in 0..255. */
  readonly mean: readonly number[];
  readonly deviation: readonly number[];
  load(request: BatchRequest): Promise<Batch>;
  /** Says, of a batch that was loaded here, that nobody reads its pixels any more. */
  release(batch: Batch): void;
  close(): Promise<void>;
}
