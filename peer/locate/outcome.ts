import type { LookupStep, NetworkLevel, RingBody, StrategyName } from '../../common/schemas.ts'

/** What the steps of a lookup tell together. */

/** Whether this step is about someone who gave no answer, now or lately. */
export function isDown({ outcome }: Pick<LookupStep, 'outcome'>): boolean {
  return outcome === 'unreachable' || outcome === 'timeout' || outcome === 'skipped'
}

/** Whether this step asked nobody but this peer itself. */
export function isLocal({ strategy }: LookupStep): boolean {
  return strategy === 'local'
}

/** Whether nobody but this peer could be asked, so that "nothing found" is no knowledge. */
export function noneAnswered(steps: readonly LookupStep[]): boolean {
  const asked = steps.filter((step) => !isLocal(step))
  return asked.length > 0 && asked.every(isDown)
}

/**
 * The steps that left a gap in what is known. Where the directory answered, it does not matter that the ring, or the
 * neighbours, did not: they know of nobody whom it does not.
 */
export function gaps(steps: readonly LookupStep[]): LookupStep[] {
  // One that refuses, or fails, tells nothing.
  const directoryAnswered = steps.some(
    ({ strategy, outcome }) => strategy === 'maestro' && (outcome === 'found' || outcome === 'nothing'),
  )
  const isSubstitute = ({ strategy }: LookupStep) => strategy === 'chord' || strategy === 'flood'
  return steps.filter((step) => isDown(step) && !(directoryAnswered && isSubstitute(step)))
}

/** How it stands with those whom a lookup may ask. */
export interface NetworkState {
  /** those in use */
  readonly strategies: readonly StrategyName[]
  readonly maestro: 'answers' | 'down' | 'none'
  readonly ring: RingBody['state']
  /** neighbours that are believed to be alive */
  readonly neighbours: number
  /** friends that are not known to be silent */
  readonly friends: number
}

/** At which level the network works, as this peer sees it; the steps of a lookup know better than what was known before. */
export function levelOf(known: NetworkState, steps: readonly LookupStep[] = []): NetworkLevel {
  const state = corrected(known, steps)
  if (state.maestro === 'answers') return { level: 'maestro', text: 'the Maestro answers' }
  const why = state.maestro === 'none' ? 'no Maestro configured' : 'Maestro down'
  const { ring, strategies } = state
  const isRing = ring === 'whole' || ring === 'small'
  if (isRing && strategies.includes('chord')) return { level: 'ring', text: `${why}: using the ring${ageText(steps)}` }
  const reasons = strategies.includes('chord') ? `${why}, ${RING[isRing ? 'repairing' : ring]}` : why
  if (state.neighbours > 0 && strategies.includes('flood'))
    return { level: 'neighbours', text: `${reasons}: asking neighbours` }
  if (state.friends > 0 && strategies.includes('friends'))
    return { level: 'friends', text: `${reasons}: asking friends` }
  return { level: 'alone', text: "nobody answers: only this peer's own files are found" }
}

const RING: Record<Exclude<RingBody['state'], 'whole' | 'small'>, string> = {
  off: 'no part in the ring',
  alone: 'ring of one',
  repairing: 'the ring is being repaired',
}

function corrected(state: NetworkState, steps: readonly LookupStep[]): NetworkState {
  const of = (name: StrategyName) => steps.filter(({ strategy }) => strategy === name)
  const [maestro] = of('maestro')
  const [chord] = of('chord')
  const [flood] = of('flood')
  const friends = of('friends')
  const isRing = state.ring === 'whole' || state.ring === 'small'
  return {
    strategies: state.strategies,
    maestro: maestro ? (isDown(maestro) ? 'down' : 'answers') : state.maestro,
    ring: !chord ? state.ring : isDown(chord) ? (isRing ? 'repairing' : state.ring) : isRing ? state.ring : 'small',
    neighbours: !flood ? state.neighbours : isDown(flood) ? 0 : Math.max(1, state.neighbours),
    friends: friends.length === 0 ? state.friends : friends.filter((step) => !isDown(step)).length,
  }
}

function ageText(steps: readonly LookupStep[]): string {
  const age = steps.find(({ strategy }) => strategy === 'chord')?.age_ms ?? null
  return age === null ? '' : `; records up to ${Math.max(1, Math.ceil(age / 1000))} s old`
}
