// What the service answers, as far as the page reads it. Names are those of premem's wire models; a test compares
// the fields of each with the OpenAPI document.

export type JobState = "queued" | "running" | "finalizing" | "completed" | "failed" | "cancelling" | "cancelled";

export interface Page<Item> {
  items: Item[];
  next_cursor: string | null;
}

// Data sets

export interface GraderChoice {
  name: string;
}

export interface Columns {
  question: string | null;
  trace: string | null;
  final_answer: string | null;
  id: string | null;
  messages: string | null;
}

export interface BadLineReply {
  line: number;
  message: string;
}

export interface Dataset {
  id: string;
  name: string;
  rows: number;
  columns: Columns;
  grader: GraderChoice;
  grader_reason: string | null;
  ungradable: number;
  ungradable_lines: BadLineReply[];
  chats: number;
  repaired: number;
}

export interface Template {
  chat?: boolean;
}

export interface PreviewTokens {
  texts: string[];
  target_start: number;
  shifted: boolean;
}

export interface PreviewRow {
  prompt: string;
  target: string;
  tokens: PreviewTokens | null;
}

export interface Preview {
  dataset: Dataset;
  template: Template;
  rows: PreviewRow[];
  untokenized: string | null;
}

export interface TagCount {
  tag: string;
  rows: number;
}

export interface TagCounts {
  items: TagCount[];
}

// Jobs

export interface TaskCounts {
  total: number;
  completed: number;
}

export interface JobCounts {
  tasks: TaskCounts;
  samples: number;
  engine_seconds: number;
  samples_saved: number;
  tokens_saved: number;
}

export interface Job {
  id: string;
  kind: "score" | "regrade" | "resample" | "acquire";
  name: string;
  state: JobState;
  dataset: string;
  below: number | null;
  counts: JobCounts;
  seconds_left: number | null;
  tokens_per_second: number | null;
  errors: string[];
  warnings: string[];
}

/** What the page asks for; everything else is as the service has it. */
export interface JobRequest {
  dataset: string;
  checkpoints: { path: string }[];
  sampling: { samples: number };
  template?: Template;
  memorized_below?: number | string;
  test_dataset?: string;
  trajectory?: string;
}

export interface Between {
  low: number;
  high: number;
}

export interface Estimate {
  examples: number;
  checkpoints: number;
  scored_tokens: number;
  answers: Between;
  workers: number;
  seconds: Between | null;
  notes: string[];
}

// Scores

export interface ThresholdReply {
  memorized_below: number | null;
}

export interface IntervalReply {
  low: number;
  high: number;
}

export interface ForecastReply {
  accuracy: number;
  low: number;
  high: number;
}

export interface CheckpointReport {
  checkpoint: string;
  test_accuracy: number | null;
  forecast: ForecastReply | null;
}

export interface TraitReply {
  name: string;
  chosen: number;
  rest: number;
}

export interface LowReply {
  below: number;
  examples: number;
  traits: TraitReply[];
}

export interface JobReport {
  threshold: ThresholdReply;
  checkpoints: CheckpointReport[];
  low: LowReply;
}

export interface ScoredExample {
  rank: number;
  row: number;
  id: string;
  question: string;
  pre_memorization_accuracy: number;
  mean_accuracy: number | null;
  accuracy: (number | null)[];
  perplexity: number[];
  interval: IntervalReply;
  last_accuracy: number | null;
  memorized_at: string | null;
  tags: string[];
}

export interface ExamplePage {
  items: ScoredExample[];
  checkpoints: string[];
  total: number;
  next_cursor: string | null;
}

export interface AnswerReply {
  text: string;
  verdict: "right" | "wrong" | "no_answer" | "timeout";
}

export interface CheckpointAnswers {
  checkpoint: string;
  perplexity: number | null;
  memorized: boolean | null;
  accuracy: number | null;
  answers: AnswerReply[];
}

export interface ExampleDetail extends ScoredExample {
  trace: string;
  checkpoints: CheckpointAnswers[];
}

// Choices

export type PolicyName = "lowest" | "band" | "variance" | "mean" | "random";

export interface Lineage {
  policy: PolicyName;
}

export interface SelectedExample {
  row: number;
  id: string;
  score: number;
}

export interface Selection {
  qualified: number;
  total: number;
  excluded: number;
  chosen: SelectedExample[];
  notes: string[];
  traits: TraitReply[];
}

export interface Part {
  total: number;
  first: SelectedExample[];
}

export interface Overlap {
  lineage: Lineage;
  other: Lineage;
  both: Part;
  only_one: Part;
  only_other: Part;
}

// Calibrations

export interface SettingReply {
  model: string;
  task: string;
}

export interface FitReply {
  r2_identity: number | null;
  mae: number;
}

export interface CalibrationPoint {
  run: string;
  checkpoint: string;
  forecast: number;
  test: number;
}

export interface CalibrationReply {
  name: string;
  setting: SettingReply;
  rule: string;
  memorized_below: number;
  jobs: string[];
  fit: FitReply;
  left_out: FitReply;
  interval: [number, number];
  band: [number, number] | null;
  half_width: number;
  thresholds: number[];
  r2: (number | null)[];
  points: CalibrationPoint[];
  warnings: string[];
}

// The libraries in vendor/, as far as the page calls them.

interface DiffPart {
  value: string;
  added?: boolean;
  removed?: boolean;
}

declare global {
  const Diff: {
    diffWordsWithSpace(before: string, after: string, options: { timeout: number }): DiffPart[] | undefined;
  };
  const uPlot: new (options: object, data: (number | null)[][], into: HTMLElement) => object;
}
