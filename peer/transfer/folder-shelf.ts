// Its old place, for those who import it from here.
export type { Shelf, Shelved, SmallFile } from './contents.ts'
