import type { LocatedProvider, LookupStep } from '../../common/schemas.ts'
import { isDown, isLocal } from '../locate/outcome.ts'
import type { Output } from './output.ts'
import { list, type Styled } from './text.ts'

/** How a lookup went, told to people. */

const COLOUR: Record<LookupStep['outcome'], Styled['style']> = {
  found: 'green',
  nothing: 'dim',
  unreachable: 'red',
  timeout: 'red',
  refused: 'red',
}

/** Every step with whom, outcome and time. */
export function showSteps(steps: readonly LookupStep[], out: Output): void {
  out.table(
    [
      { title: 'STEP', align: 'right' },
      { title: 'VIA' },
      { title: 'ASKED', shrinks: true },
      { title: 'OUTCOME' },
      { title: 'TIME', align: 'right' },
      { title: '', shrinks: true },
    ],
    steps.map((step, i) => [
      String(i + 1),
      step.strategy,
      step.asked,
      { style: COLOUR[step.outcome], text: step.outcome === 'found' ? `found ${step.found}` : step.outcome },
      `${step.ms < 10 ? step.ms.toFixed(1) : Math.round(step.ms)} ms`,
      step.detail ?? '',
    ]),
  )
}

/** Says who was down on the way, and who was asked instead. */
export function noteDegradation(
  steps: readonly LookupStep[],
  providers: readonly Pick<LocatedProvider, 'peer' | 'rest'>[],
  out: Output,
): void {
  const down = steps.filter(isDown)
  if (down.length === 0) return
  const answered = steps.findLast((step) => step.outcome === 'found' && !isLocal(step))
  const who = list(down.map(nameOfDown))
  const verb = down.length === 1 ? 'does' : 'do'
  const instead = answered === undefined ? '' : `; asked ${nameOfAnswered(answered, providers)} instead`
  out.note({ style: 'yellow', text: `${who} ${verb} not answer${instead}` })
}

/** Who could not be asked: `the Maestro at http://… and the friend at http://…`; empty where all answered. */
export function whoIsDown(steps: readonly LookupStep[]): string {
  return list(steps.filter(isDown).map(nameOfDown))
}

function nameOfDown({ strategy, asked }: LookupStep): string {
  return strategy === 'maestro' ? `the Maestro at ${asked}` : `the friend at ${asked}`
}

function nameOfAnswered(
  { strategy, asked }: LookupStep,
  providers: readonly Pick<LocatedProvider, 'peer' | 'rest'>[],
): string {
  if (strategy === 'maestro') return `the Maestro at ${asked}`
  const friend = providers.find(({ rest }) => rest === asked)
  return friend ? `friend ${friend.peer}` : `the friend at ${asked}`
}
