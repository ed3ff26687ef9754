import{a,b}from"./chunk-RC25OINY.js";import"./chunk-IIEHC5JF.js";export{b as DataTable,a as sorted};
