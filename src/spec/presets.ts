// Named recipes: what the paper, its author's later code, Caffe and a TensorFlow fine-tuning script train with (docs/recipes.md).

export const presetNames = ['paper', 'cuda-convnet2', 'caffe', 'kratzert'] as const;
export type PresetName = (typeof presetNames)[number];
