import{a,b}from"./chunk-I2R4UOPD.js";import"./chunk-3THGXESP.js";export{b as DataTable,a as sorted};
