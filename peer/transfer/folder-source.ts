// Its old place, for those who import it from here.
export { MAX_SMALL, type SmallContent, type SmallStream } from './small-source.ts'
