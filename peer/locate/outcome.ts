import { NetworkError } from '../../common/errors.ts'
import type { LookupStep, NetworkLevel, RingBody, StrategyName } from '../../common/schemas.ts'

/** What the steps of a lookup tell together. */

/** Whether this step tells what someone knows: that somebody has it, or that nobody has. One that refuses, or fails, tells nothing. */
export function isKnowledge({ outcome }: Pick<LookupStep, 'outcome'>): boolean {
  return outcome === 'found' || outcome === 'nothing'
}

/** Whether this step is about someone who gave no answer, now or lately. One that refuses has given one, though it is no knowledge. */
export function isDown({ outcome }: Pick<LookupStep, 'outcome'>): boolean {
  return outcome === 'unreachable' || outcome === 'timeout' || outcome === 'skipped'
}

/** Whether this step asked nobody but this peer itself. */
export function isLocal({ strategy }: LookupStep): boolean {
  return strategy === 'local'
}

/** Whether nobody but this peer has told what they know, so that "nothing found" is no knowledge. */
export function noneAnswered(steps: readonly LookupStep[]): boolean {
  const asked = steps.filter((step) => !isLocal(step))
  return asked.length > 0 && !asked.some(isKnowledge)
}

/**
 * The steps that left a gap in what is known. Where the directory answered, it does not matter that the ring, or the
 * neighbours, did not: they know of nobody whom it does not.
 */
export function gaps(steps: readonly LookupStep[]): LookupStep[] {
  const directoryAnswered = steps.some((step) => step.strategy === 'maestro' && isKnowledge(step))
  const isSubstitute = ({ strategy }: LookupStep) => strategy === 'chord' || strategy === 'flood'
  return steps.filter((step) => !isKnowledge(step) && !(directoryAnswered && isSubstitute(step)))
}

/**
 * Of a lookup that found nobody: who shared it not long ago, by the records of the ring, and does not answer now.
 * @param what as people read it: `"film.mkv"`
 */
export function silentProviders(steps: readonly LookupStep[], what: string): NetworkError | undefined {
  const silent = steps.flatMap((step) => step.silent)
  if (silent.length === 0) return undefined
  const peers = [...new Set(silent.map(({ peer }) => peer))]
  const more = peers.length > MAX_NAMED ? ` and ${peers.length - MAX_NAMED} more` : ''
  const who = `${peers.slice(0, MAX_NAMED).join(', ')}${more}`
  const ago = spanText(Math.min(...silent.map(({ age_ms }) => age_ms)))
  return new NetworkError(
    'unavailable',
    `${who} shared ${what} ${ago} ago and ${peers.length === 1 ? 'does' : 'do'} not answer now, and nobody else offers it: try again later`,
  )
}

const MAX_NAMED = 5

/** `40 s`, `6 min`, `3 h`: rounded up, never nothing */
export function spanText(ms: number): string {
  const seconds = Math.max(1, Math.ceil(ms / 1000))
  if (seconds < 120) return `${seconds} s`
  if (seconds < 7200) return `${Math.ceil(seconds / 60)} min`
  return `${Math.ceil(seconds / 3600)} h`
}

/** How it stands with those whom a lookup may ask. */
export interface NetworkState {
  /** those in use */
  readonly strategies: readonly StrategyName[]
  readonly maestro: 'answers' | 'refuses' | 'down' | 'none'
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
  const why = WHY[state.maestro]
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

const WHY = { none: 'no Maestro configured', down: 'Maestro down', refuses: 'the Maestro refuses' } as const

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
    maestro: !maestro ? state.maestro : isDown(maestro) ? 'down' : isKnowledge(maestro) ? 'answers' : 'refuses',
    ring: !chord
      ? state.ring
      : !isKnowledge(chord)
        ? isRing
          ? 'repairing'
          : state.ring
        : isRing
          ? state.ring
          : 'small',
    neighbours: !flood ? state.neighbours : !isKnowledge(flood) ? 0 : Math.max(1, state.neighbours),
    friends: friends.length === 0 ? state.friends : friends.filter(isKnowledge).length,
  }
}

function ageText(steps: readonly LookupStep[]): string {
  const age = steps.find(({ strategy }) => strategy === 'chord')?.age_ms ?? null
  return age === null ? '' : `; records up to ${spanText(age)} old`
}
