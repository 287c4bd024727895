import type { LocatedProvider, LookupStep, NetworkLevel } from '../../common/schemas.ts'
import { gaps, isLocal, spanText } from '../locate/outcome.ts'
import type { Output } from './output.ts'
import { list, type Styled, styled } from './text.ts'

/** How a lookup went, told to people. */

const COLOUR: Record<LookupStep['outcome'], Styled['style']> = {
  found: 'green',
  nothing: 'dim',
  unreachable: 'red',
  timeout: 'red',
  refused: 'red',
  skipped: 'yellow',
}

/** Every step with whom, outcome and time; then the way of those that went from peer to peer. */
export function showSteps(steps: readonly LookupStep[], out: Output): void {
  out.table(
    [
      { title: 'STEP', align: 'right' },
      { title: 'VIA' },
      { title: 'ASKED', shrinks: true },
      { title: 'OUTCOME' },
      { title: 'TIME', align: 'right' },
      { title: 'MESSAGES', align: 'right' },
      { title: 'HOPS', align: 'right' },
    ],
    steps.map((step, i) => [
      String(i + 1),
      step.strategy,
      step.asked,
      { style: COLOUR[step.outcome], text: step.outcome === 'found' ? `found ${step.found}` : step.outcome },
      `${step.ms < 10 ? step.ms.toFixed(1) : Math.round(step.ms)} ms`,
      String(step.messages),
      step.hops === null ? '' : String(step.hops),
    ]),
  )
  for (const [i, step] of steps.entries()) {
    const notes = [...(step.path.length > 0 ? [pathText(step)] : []), ...(step.detail === null ? [] : [step.detail])]
    for (const note of notes) out.line(styled('dim', `${i + 1} ${step.strategy}: `), note)
  }
}

/**
 * `this peer → P7 → P3 (silent) → P9 keeps it; compared with P4`: the way to the member that is responsible, then others
 * that keep the same.
 */
function pathText({ path, hops }: LookupStep): string {
  const name = ({ peer, answered }: LookupStep['path'][number]) => (answered ? peer : `${peer} (silent)`)
  if (hops === null) return ['this peer', ...path.map(name)].join(' → ')
  let way = 0
  for (let answered = 0; answered < hops && way < path.length; way++) if (path[way]!.answered) answered++
  const keeper = `${['this peer', ...path.slice(0, way).map(name)].join(' → ')} ${way === 0 ? 'keeps its records itself' : 'keeps its records'}`
  const compared = path.slice(way).map(name)
  return compared.length === 0 ? keeper : `${keeper}; also asked: ${list(compared)}`
}

/** At which level the network works. */
export function showLevel({ text }: NetworkLevel, out: Output): void {
  out.line(styled('dim', 'network: '), text)
}

/** Says who was down on the way, and who was asked instead: at which level the network works. */
export function noteDegradation(
  steps: readonly LookupStep[],
  providers: readonly Pick<LocatedProvider, 'peer' | 'rest'>[],
  out: Output,
): void {
  const down = gaps(steps)
  if (down.length === 0) return
  const answered = steps.find((step) => step.outcome === 'found' && !isLocal(step))
  const verb = down.length === 1 && down[0]?.strategy !== 'flood' ? 'does' : 'do'
  const instead = answered === undefined ? '' : `; asked ${nameOfAnswered(answered, providers)} instead`
  out.note({ style: 'yellow', text: `${list(down.map(nameOfDown))} ${verb} not answer${instead}` })
}

/** Who could not be asked: `the Maestro at http://… and the friend at http://…`; empty where all answered. */
export function whoIsDown(steps: readonly LookupStep[]): string {
  return list(gaps(steps).map(nameOfDown))
}

function nameOfDown({ strategy, asked }: LookupStep): string {
  switch (strategy) {
    case 'maestro':
      return `the Maestro at ${asked}`
    case 'friends':
      return `the friend at ${asked}`
    default:
      // `the ring`, `the neighbours`
      return asked
  }
}

function nameOfAnswered(step: LookupStep, providers: readonly Pick<LocatedProvider, 'peer' | 'rest'>[]): string {
  const friend = step.strategy === 'friends' && providers.find(({ rest }) => rest === step.asked)
  if (friend) return `friend ${friend.peer}`
  const age = step.age_ms === null ? '' : ` (records up to ${spanText(step.age_ms)} old)`
  return `${nameOfDown(step)}${age}`
}
