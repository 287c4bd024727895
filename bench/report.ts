import { mkdirSync, writeFileSync } from 'node:fs'
import { cpus, release, totalmem } from 'node:os'
import { dirname } from 'node:path'
import Table from 'cli-table3'

/** One measured number beside its target and a baseline of the same run. */
export interface Measurement {
  what: string
  /** the number, in `unit`; absent where there is none, and `note` says why: a target is missed then */
  value?: number
  unit: string
  /** the bound that it is held to, in the same unit; `atMost` or `atLeast` */
  target?: { atMost: number } | { atLeast: number }
  /** what it is compared with, in the same run */
  baseline?: { what: string; value: number; unit: string }
  note?: string
}

export function say(line: string): void {
  process.stderr.write(`${line}\n`)
}

export function met({ value, target }: Measurement): boolean | undefined {
  if (target === undefined) return undefined
  if (value === undefined) return false
  return 'atMost' in target ? value <= target.atMost : value >= target.atLeast
}

/** The machine in a line, for those who compare numbers. */
export function machine(): string {
  const model = cpus()[0]?.model.trim() ?? 'unknown processor'
  return `${cpus().length} × ${model}, ${Math.round(totalmem() / 2 ** 30)} GiB, Linux ${release()}, Node ${process.version}`
}

export function table(measurements: readonly Measurement[]): string {
  const rows = new Table({
    head: ['what', 'measured', 'target', 'met', 'baseline in the same run', 'ratio'],
    style: { head: [], border: [] },
  })
  for (const m of measurements) {
    const target = m.target && ('atMost' in m.target ? `≤ ${number(m.target.atMost)}` : `≥ ${number(m.target.atLeast)}`)
    const verdict = met(m)
    rows.push([
      m.note ? `${m.what}\n(${m.note})` : m.what,
      m.value === undefined ? '' : `${number(m.value)} ${m.unit}`,
      target ? `${target} ${m.unit}` : '',
      verdict === undefined ? '' : verdict ? 'yes' : 'NO',
      m.baseline ? `${m.baseline.what}: ${number(m.baseline.value)} ${m.baseline.unit}` : '',
      m.baseline && m.baseline.unit === m.unit && m.value !== undefined ? (m.value / m.baseline.value).toFixed(2) : '',
    ])
  }
  return rows.toString()
}

function number(value: number): string {
  if (Math.abs(value) >= 1000) return Math.round(value).toLocaleString('en-US')
  return Number(value.toPrecision(3)).toString()
}

export function writeJson(file: string, measurements: readonly Measurement[]): void {
  mkdirSync(dirname(file), { recursive: true })
  const result = {
    machine: machine(),
    date: new Date().toISOString(),
    measurements: measurements.map((m) => ({ ...m, met: met(m) ?? null })),
  }
  writeFileSync(file, `${JSON.stringify(result, null, 2)}\n`)
}

/** The middle one; of an even count the lower of the two. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.floor((sorted.length - 1) / 2)] ?? Number.NaN
}
