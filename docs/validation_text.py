"""The sentences of docs/explanation/validation.md; `make_validation.py` puts the tables between them."""

HEAD = """\
<!-- Written by docs/make_validation.py. Change that file or docs/validation_text.py, then run it. -->

# Validation

What pentarch predicts, held against what others measured, and against what can be proven. A figure deserves as much trust as the
line of this page that it falls under. How each figure is computed is in the [cost model](cost-model.md).

How to read the tables: **MAPE** is the mean of |predicted / measured − 1|, **median** its median, **bias** exp(mean(log(predicted / measured))):
above 1 means predicted too slow. **Roofline** is the MAPE of the larger of work / peak and bytes / bandwidth on the same rows. *Main* rows are those that
the files hold to be reliable; rows whose data fit the last-level cache of the loop that timed them are shown apart (*in cache*), as they
depend on what that loop left there. Flagged rows are predicted, and used for nothing.

Three things to know before trusting an error:

- **The measured devices were fitted to these rows** (about ten physical parameters a device, a few a kernel library; `pentarch calibrate`). What a
  device without any measurement gets is in [what was never measured](#what-was-never-measured), and that is the figure for a new chip.
- **Measurements differ.** The same GEMM on the same kind of GPU differs by 5 to 10 % between two independent sources, and by 4 to 8 % between software stacks in bf16,
  up to 43 % in fp8. An error below that says nothing.
- **A figure that is not in a table has not been checked** against a measurement.
"""

AIMS = """\
## Aims

What the project asks of itself, for groups of at least 20 rows: bf16 GEMMs within 10 % and without bias, GEMMs in narrower formats within 15 % for each software stack, attention on Hopper and
Blackwell within 12 % (elsewhere a median of 15 %), kernels of mixtures of experts within 25 %, matrix operators of other projects within 12 %.
"""

KERNELS = """\
## Kernels of data-center GPUs

The reference column of each file: the median of the stacks or, where only one was measured, that one.
"""

STACKS = """\
### By software stack

Each column of a file against the runtime of that stack: MAPE and rows, main rows only.
"""

EXPERTS = """\
## Mixtures of experts

The routed block of one device, by the kernel that ran. Tokens follow the distribution that a file states.
"""

OTHERS = """\
## Operators that other projects measured

Times here include what each project timed: `llmcompass_ops` the call from a framework and its synchronization, `vidur_ops` kernels of a served layer (what comes between two uses of a
weight is the rest of that layer), `neusight_fp32_ops` FP32 operators on ten older or smaller GPUs.
"""

COLLECTIVES = """\
## Collectives
"""

RUNS = """\
## Whole models

Serving sweeps and published runs. Rows whose machine, software or split among devices is not stated well enough are not scored (see [rows without a
prediction](#rows-without-a-prediction)). *Published* figures are scored by what their tag says was measured; they are single figures of many different setups, so a group is a survey, not a sample.

TTFT under load is waiting more than work: sweeps send their requests in bursts or at a rate, while the closed form spreads the prefills of the others evenly. Its TTFT is
therefore a lower bound there, by up to a factor of ten, and no figure to judge a design by.
"""

LEFT_OUT = """\
## What was never measured

`pentarch validate FILE --leave-out NAME` predicts as if a device, or a whole architecture family, had never been measured: what was fitted to it, and all that rests on those fits, is hidden,
and the priors of the datasheet, moved by the other families, take its place. Kernel sets are facts of a software stack and stay known as far as another device shows them.

The last column says how many times nearer than the plain roofline a prediction without the family is. The medians of the priors were set after all six devices had been seen, so these figures are a little too good;
with priors that know nothing of a device but the others' fits, bf16 GEMMs were at 6 % on H100 and 11 to 18 % elsewhere.
"""

WORST = """\
## Worst rows

The rows of each file with the largest ratio, those flagged as unreliable left out. Seconds, or the unit of the figure.
"""

UNSCORED = """\
## Rows without a prediction

*Infeasible* means that the model says the run does not fit in memory although it was measured: a bug of the memory model, or sharding that the file does not state.
"""

PLOTS = """\
## Plots

Predicted against measured on logarithmic axes; the dotted lines are 25 % apart from equality. Of more than 200 rows every n-th is drawn. `pentarch validate FILE --plot FOLDER` draws all of them.
"""

MISSING = """\
## What the model leaves out, and how large it is

Found by looking at the rows that no physical parameter could explain, with the size of each effect.

| what | where it shows | size |
|---|---|---|
| **A kernel library that picks a poor tile.** The model takes the tile and the split of least predicted time; libraries use heuristics | A100, 128 to 192 rows against 16,384 columns | 0.7 times the measured time |
| **oneDNN in the middle range** runs at half the bandwidth and a third of the peak at once, which no tile does | B60, 48 to 384 rows with k of 6,144 to 12,288 | 1.8 to 2.4 times slower; the main reason for the error on B60 |
| **Quantization of very long rows**, longer than a block of threads holds | fp8 under vLLM on Hopper, k of 51,200 and over 1,000 rows | up to 30 % of a kernel (90th percentile; median 9 %) |
| **Kernels in series inside one call**: reference kernels without split keys for head widths of 256, loops over experts | SGLang decode on Blackwell, fp8 experts on Hopper | up to 6 times on single shapes; stated as facts of the stack where known |
| **Shared or throttled machines** | GB200 under vLLM: kernels above a millisecond reach 0.42 to 0.53 of peak, the same shapes 0.55 to 0.63 under other stacks | 10 to 20 %, described by a power that does not carry over |
| **Address translation and small caches** of matrix kernels without swizzling | FP32 GEMMs with 32,768 columns or more on MI100 and MI210, some on P100 | a factor of 2 to 3 within one kernel |
| **Temperature** over minutes | passively cooled T4 and L4 | a factor of 2 between equal shapes |
| **PCIe without peer-to-peer** | collectives on RTX PRO 6000 | 15 to 46 % |
| **Waiting lines**: bursts of requests, schedulers, chunked prefill | TTFT of serving sweeps | up to a factor of ten, see *whole models* |
| **Hot experts**, disaggregated serving, attention data parallelism | serving sweeps of mixtures of experts | not predicted; such rows are counted as unscored or carry large errors |

**Power and cost.** Twelve published board powers of A100 and H100 are predicted with a mean error of 7 % (`tests/validation/test_power_figures.py`), decode draws 0.50 to 0.68 of the rated power, and the bill of material of an H100
is 3.2 thousand USD against a published 3.3 (`tests/validation/test_technology_sanity.py`); ratios between nodes and formats are on the page [technology](technology.md). **Custom SoCs** cannot be measured, as they do not
exist: their trust comes from the technology figures and from the mapper. **Prices** are dated quotations or a model, never validated.

**Tried, and worse than what is there.** One fixed start per tile (it must grow with the tile's outputs); a bandwidth limit per multiprocessor in place of a least time per k step; a cache that keeps all of a cyclic stream or
nothing (random replacement is right); the sum of host and device time on an eager stack (the slower of both is right).
"""

REPRINT = """\
## Print it again

The files themselves are not part of the project: they hold other people's measurements, and a model that carries them along could read the answer. Excerpts with their notices are, so that anybody can print this:

```bash
pentarch validate tests/validation/data/measured --worst 5
```

A test makes the following table again from the excerpts and compares. Excerpts were chosen to cover every format of file, not to be typical; groups this small say little about the model.
"""

CHECKED = """\
## Checked against an oracle

Two files of exact integers, found by exhaustive search and by literally walking loop nests, are part of the tests. Every row must be equal to the byte; below the optimum is a bug too.

| file (`tests/validation/data/`) | holds | rows | compared by (`tests/unit/mapping/test_oracle.py`) |
|---|---|---|---|
| `mapper_oracle.csv`, GEMM | least memory traffic behind one buffer, five conventions (even and uneven split of the buffer, double buffering, perfect and imperfect tiles), and the lower bound of any schedule | 17 | `test_least_gemm_traffic_equals_the_oracle`, `test_the_reference_and_the_bound_equal_the_oracle`, `test_a_batch_of_all_gemms_on_all_buffers_has_the_oracle_on_its_diagonal` |
| `mapper_oracle.csv`, attention | least traffic of fused attention, its row blocks, and the traffic of unfused attention | 3 | `test_fused_and_unfused_attention_equal_the_oracle` |
| `mapper_eval_oracle.csv` | traffic of given tiles and loop orders, by operand: tests the counting apart from the search | 14 | `test_a_given_tiling_costs_what_walking_it_costs` |

`test_the_files_hold_the_public_cases` fails if a row goes missing. Anyone can see the comparison, and `--check` makes a single unequal row an error:

```bash
pentarch validate tests/validation/data --check
```

## Checked against another derivation

Expected numbers in the tests come from another route than the code's: by hand, by brute force, from a cited figure, or from another library.

| what | how | where (`tests/`) |
|---|---|---|
| optimal tiles behind one, two and more buffers | brute force over all tiles of small shapes; compiled and uncompiled kernels give the same bytes | `unit/mapping/` |
| attention blocks, causal and windowed, split keys | brute force and hand counts | `unit/mapping/` |
| cycles of arrays, tile menu and waves, vector rows | loops over tiles and splits, hand-computed cases | `unit/mapping/` |
| collectives | the cited formulas, and step-by-step counts on a ring | `unit/mapping/test_collectives.py` |
| parameters of every model family and named model | equal to `transformers`, to the last parameter, on models without weights | `validation/test_transformers_parameters.py`, `test_transformers_catalog.py` |
| FLOPs | torch's FLOP counter on the same models | `validation/test_transformers_flops.py` |
| lowering to operator rows | sums over the graphs of every decode step, and closed forms | `unit/graph/test_lowering.py` |
| energy, area, yield, price | cited figures and formulas with their sources; published powers and costs | `unit/hardware/technology/`, `validation/test_power_figures.py`, `test_technology_sanity.py` |
| schedules, pipelines, power cap, residency, ledgers | small machines computed by hand | `unit/evaluate/` |
| the figures that the definitions state | useful work of a query, the decode MFU that reading the KV cache allows | `validation/test_definitions_figures.py` |

Further tests hold properties instead of numbers: more bandwidth is never slower, no GEMM beats its peak or its roofline, energies and ledgers sum to their totals, a batch equals its designs one by one. The conformance kit
(`pentarch.testing`) asks the same of every plug-in.

## See what one result rests on

`pentarch evaluate ... --json` lists under `inputs` how many figures of each grade the result used and the paths of those that are assumptions. The report shows the same under *provenance*. The grades are `pub` published, `meas`
measured (a fit to the device's own measurements is one), `tool` from a tool, `der` derived (a prior moved by other devices is one), `est` estimated, `asm` assumed.
"""
